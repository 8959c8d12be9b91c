using Nibble.Backends;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Nn;

/// <summary>
/// A layer whose input and output are rounded on fixed scales: y = Q(Ŵ·Q(x) + b). The product itself runs on the rounded values in F32, which
/// is what the product of their integers gives, but for the rounding of sums.
/// </summary>
/// <param name="inner">The layer, which this one then owns.</param>
/// <param name="scales">The scales.</param>
internal sealed class RoundedLinear(ILinear inner, StaticActivations scales) : ILinear
{
    public ILinear Inner => inner;

    public StaticActivations Scales => scales;

    public string Path => inner.Path;

    public IPackedWeight Weight => inner.Weight;

    public Tensor? Bias => inner.Bias;

    public void Forward(Tensor x, Tensor y, in Pass pass)
    {
        if (pass.Training)
        {
            Throw.Usage($"{Path} cannot be trained", "its activations are rounded on fixed scales, through which no gradient is defined", "quantize the base without --activation-bits");
        }

        using Workspace.Scope scope = pass.Workspace.Begin();
        inner.Forward(Round(x, scales.Input, pass), y, pass);
        Round(y, scales.Output, y);
    }

    public void Dispose() => inner.Dispose();

    /// <summary>A rounded copy, rented.</summary>
    internal static Tensor Round(Tensor x, float scale, in Pass pass)
    {
        Tensor copy = pass.Workspace.Rent(x.Shape);
        Round(x, scale, copy);
        return copy;
    }

    /// <summary>Rounds x into y, which may be x; both on the host (<see cref="Models.ModelBuilder"/> refuses other backends).</summary>
    internal static void Round(Tensor x, float scale, Tensor y)
    {
        Spread.Over(x.Shape.Rows, x.Shape.Columns, (first, last) =>
            StaticActivations.Round(x.Slice(first, last - first).HostSpan<float>(), scale, y.Slice(first, last - first).HostSpan<float>()));
    }
}
