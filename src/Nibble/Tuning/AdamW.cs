using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>AdamW over all parameters of a set (arXiv 1711.05101), with the moments beside them.</summary>
internal sealed class AdamW(ParameterSet parameters, IBackend backend, OptimizerSettings settings) : IDisposable
{
    private readonly Tensor[] _first = [.. parameters.All.Select(parameter => backend.Allocate(parameter.Values.Shape, DType.F32))];
    private readonly Tensor[] _second = [.. parameters.All.Select(parameter => backend.Allocate(parameter.Values.Shape, DType.F32))];

    /// <summary>Steps made.</summary>
    public int Steps { get; set; }

    /// <summary>Bytes of all moments.</summary>
    public long ByteLength => _first.Concat(_second).Sum(tensor => (long)tensor.ByteLength);

    /// <summary>Moments in the order of the parameters.</summary>
    public IEnumerable<(string Name, Tensor First, Tensor Second)> Moments =>
        parameters.All.Select((parameter, i) => (parameter.Name, _first[i], _second[i]));

    /// <summary>√Σg² over all parameters.</summary>
    public double GradientNorm() => Math.Sqrt(parameters.All.Sum(parameter => backend.Gradients.SumOfSquares(parameter.Gradient)));

    /// <summary>One step; gradients are multiplied by <paramref name="gradientScale"/> first.</summary>
    public void Step(double learningRate, double gradientScale)
    {
        Steps++;
        for (int i = 0; i < _first.Length; i++)
        {
            Parameter parameter = parameters.All[i];
            backend.Gradients.AdamW(new AdamWArguments(
                parameter.Values, parameter.Gradient, _first[i], _second[i], (float)gradientScale,
                (float)learningRate, settings.Beta1, settings.Beta2, settings.Epsilon, settings.WeightDecay, Steps));
        }
    }

    /// <summary>Sets all gradients to zero.</summary>
    public void ClearGradients()
    {
        foreach (Parameter parameter in parameters.All)
        {
            backend.Gradients.Fill(parameter.Gradient, 0);
        }
    }

    public void Dispose()
    {
        foreach (Tensor tensor in _first.Concat(_second))
        {
            tensor.Dispose();
        }
    }
}

/// <summary>Settings of AdamW.</summary>
public sealed record OptimizerSettings
{
    /// <summary>Decay of the mean of gradients.</summary>
    public float Beta1 { get; init; } = 0.9f;

    /// <summary>Decay of the mean of squared gradients.</summary>
    public float Beta2 { get; init; } = 0.999f;

    /// <summary>Added to the root of the second mean.</summary>
    public float Epsilon { get; init; } = 1e-8f;

    /// <summary>Decoupled weight decay.</summary>
    public float WeightDecay { get; init; }
}
