using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Stochastic gradient descent as PyTorch defines it: g += decay·w; v = momentum·v + g; w −= rate·v. Put together from general kernels.
/// </summary>
internal sealed class Sgd(ParameterSet parameters, IBackend backend, OptimizerSettings settings) : Optimizer(parameters, backend, settings)
{
    protected override IEnumerable<StateSpec> States(Parameter parameter) =>
        Settings.Momentum > 0 ? [new("momentum", DType.F32, parameter.Values.Shape.Count, true)] : [];

    protected override void Update(Parameter parameter, Tensor[] states, double learningRate, double gradientScale)
    {
        IKernels kernels = Backend.Kernels;
        Tensor gradient = parameter.Gradient;
        if (gradientScale != 1)
        {
            kernels.Scale(gradient, (float)gradientScale);
        }

        if (Settings.WeightDecay > 0)
        {
            using Tensor decay = Backend.Allocate(parameter.Values.Shape, DType.F32);
            Backend.Gradients.Copy(parameter.Values, decay);
            kernels.Scale(decay, Settings.WeightDecay);
            kernels.Add(decay, gradient);
        }

        if (states.Length > 0)
        {
            Tensor velocity = states[0].Reshape(gradient.Shape);
            kernels.Scale(velocity, Settings.Momentum);
            kernels.Add(gradient, velocity);
            Backend.Gradients.Copy(velocity, gradient);
        }

        kernels.Scale(gradient, (float)-learningRate);
        kernels.Add(gradient, parameter.Values);
    }
}
