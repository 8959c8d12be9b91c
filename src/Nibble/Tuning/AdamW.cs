using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>AdamW (arXiv 1711.05101) with F32 moments.</summary>
internal sealed class AdamW(ParameterSet parameters, IBackend backend, OptimizerSettings settings) : Optimizer(parameters, backend, settings)
{
    protected override IEnumerable<StateSpec> States(Parameter parameter) =>
        [new("first", DType.F32, parameter.Values.Shape.Count, true), new("second", DType.F32, parameter.Values.Shape.Count, true)];

    protected override bool UpdateAll(IReadOnlyList<Parameter> all, StateStore store, double learningRate, double gradientScale)
    {
        Backend.Gradients.AdamW([.. all.Select((parameter, i) => Arguments(parameter, store.Take(i), learningRate * parameter.RateFactor, gradientScale))]);
        return true;
    }

    protected override void Update(Parameter parameter, Tensor[] states, double learningRate, double gradientScale) =>
        Backend.Gradients.AdamW(Arguments(parameter, states, learningRate, gradientScale));

    private AdamWArguments Arguments(Parameter parameter, Tensor[] states, double learningRate, double gradientScale) =>
        new(
            parameter.Values, parameter.Gradient, states[0].Reshape(parameter.Values.Shape), states[1].Reshape(parameter.Values.Shape), (float)gradientScale,
            (float)learningRate, Settings.Beta1, Settings.Beta2, Settings.Epsilon, Settings.WeightDecay, Steps);
}
