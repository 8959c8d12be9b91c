using Nibble.Backends;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Muon for the matrices of the blocks (see <see cref="MuonArguments"/>), AdamW for embeddings, heads, norms and biases. The queries, keys
/// and values of a fused matrix have a step each.
/// </summary>
internal sealed class Muon(ParameterSet parameters, IBackend backend, OptimizerSettings settings) : Optimizer(parameters, backend, settings)
{
    protected override IEnumerable<StateSpec> States(Parameter parameter) => IsMatrix(parameter)
        ? [new("velocity", DType.F32, parameter.Values.Shape.Count, true)]
        : [new("first", DType.F32, parameter.Values.Shape.Count, true), new("second", DType.F32, parameter.Values.Shape.Count, true)];

    protected override bool UpdateAll(IReadOnlyList<Parameter> all, StateStore store, double learningRate, double gradientScale)
    {
        int[] matrices = [.. Enumerable.Range(0, all.Count).Where(i => IsMatrix(all[i]))], rest = [.. Enumerable.Range(0, all.Count).Except(matrices)];
        Backend.Gradients.AdamW([.. rest.Select(i => AdamW(all[i], store.Take(i), learningRate * all[i].RateFactor, gradientScale))]);
        if (!Backend.Gradients.TryMuon([.. matrices.Select(i => Arguments(all[i], store.Take(i), learningRate * all[i].RateFactor, gradientScale))]))
        {
            Array.ForEach(matrices, i => Move(all[i], Arguments(all[i], store.Take(i), learningRate * all[i].RateFactor, gradientScale)));
        }

        return true;
    }

    protected override void Update(Parameter parameter, Tensor[] states, double learningRate, double gradientScale)
    {
        if (!IsMatrix(parameter))
        {
            Backend.Gradients.AdamW(AdamW(parameter, states, learningRate, gradientScale));
            return;
        }

        MuonArguments arguments = Arguments(parameter, states, learningRate, gradientScale);
        if (!Backend.Gradients.TryMuon([arguments]))
        {
            Move(parameter, arguments);
        }
    }

    private static bool IsMatrix(Parameter parameter) => parameter.Matrices > 0;

    private AdamWArguments AdamW(Parameter parameter, Tensor[] states, double learningRate, double gradientScale) =>
        new(
            parameter.Values, parameter.Gradient, states[0].Reshape(parameter.Values.Shape), states[1].Reshape(parameter.Values.Shape), (float)gradientScale,
            (float)learningRate, Settings.Beta1, Settings.Beta2, Settings.Epsilon, Settings.WeightDecay, Steps);

    private MuonArguments Arguments(Parameter parameter, Tensor[] states, double learningRate, double gradientScale) =>
        new(
            parameter.Values, parameter.Gradient, states[0].Reshape(parameter.Values.Shape), parameter.Shape, parameter.Matrices, (float)gradientScale, (float)learningRate,
            Settings.Momentum, Settings.WeightDecay);

    // By general kernels. Values, gradient and velocity stand in the order of the packing; the matrix that is made orthogonal in that of rows.
    private void Move(Parameter parameter, MuonArguments a)
    {
        (IKernels kernels, IGradientKernels gradients) = (Backend.Kernels, Backend.Gradients);
        kernels.Scale(a.Gradient, a.GradientScale);
        kernels.Scale(a.Velocity, a.Momentum);
        kernels.Add(a.Gradient, a.Velocity);
        using Tensor direction = Backend.Allocate(a.Values.Shape, DType.F32), rows = Backend.Allocate(parameter.Shape, DType.F32);
        gradients.Copy(a.Velocity, direction);
        kernels.Scale(direction, a.Momentum);
        kernels.Add(a.Gradient, direction);
        gradients.ToRows(parameter.Weight!, direction, rows);
        nint height = parameter.Shape[0] / a.Matrices;
        for (int i = 0; i < a.Matrices; i++)
        {
            NewtonSchulz.Run(Backend, rows.Slice(i * height, height));
        }

        gradients.FromRows(parameter.Weight!, rows, direction);
        kernels.Scale(direction, -a.StepOf(height, parameter.Shape[1]));
        kernels.Scale(a.Values, a.Keep);
        kernels.Add(direction, a.Values);
    }
}
