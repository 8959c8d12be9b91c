using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Nn;

/// <summary>A linear layer y = x·Wᵀ + b, dense, quantized or with an adapter around it.</summary>
public interface ILinear : IDisposable
{
    /// <summary>Module path: the checkpoint's tensor name without <c>.weight</c>.</summary>
    string Path { get; }

    /// <summary>The packed weight of the innermost layer.</summary>
    IPackedWeight Weight { get; }

    /// <summary>Its bias, F32 <c>[out]</c>, or null.</summary>
    Tensor? Bias { get; }

    /// <summary>x <c>[rows, in]</c> to y <c>[rows, out]</c>, both F32.</summary>
    void Forward(Tensor x, Tensor y, in Pass pass);

    /// <summary>
    /// y += the layer's result, y the F32 residual stream; <paramref name="free"/> is a place of the result's shape that may be overwritten.
    /// <paramref name="last"/>: a block does nothing after it.
    /// </summary>
    void AddTo(Tensor x, Tensor free, Tensor y, in Pass pass, bool last = false) => this.AddSeparately(x, free, y, pass, last);
}

/// <summary>A linear layer over a packed weight.</summary>
/// <param name="path">Module path.</param>
/// <param name="weight">The packing, which the layer then owns.</param>
/// <param name="bias">The bias, owned by the model, or null.</param>
public sealed class PackedLinear(string path, IPackedWeight weight, Tensor? bias) : ILinear
{
    /// <inheritdoc/>
    public string Path => path;

    /// <inheritdoc/>
    public IPackedWeight Weight => weight;

    /// <inheritdoc/>
    public Tensor? Bias => bias;

    /// <inheritdoc/>
    public void Forward(Tensor x, Tensor y, in Pass pass) => Ops.MatMul.Forward(pass.Backend, x, weight, bias, y);

    /// <inheritdoc/>
    public void AddTo(Tensor x, Tensor free, Tensor y, in Pass pass, bool last = false)
    {
        if (pass.Scratch is null || weight.Activations != ActivationType.F32)
        {
            this.AddSeparately(x, free, y, pass, last);
            return;
        }

        if (last && pass.Tape is { IsRerunning: true } tape)
        {
            tape.Unread(y);
        }

        Ops.MatMul.AddForward(pass.Backend, x, weight, bias, y);
    }

    /// <inheritdoc/>
    public void Dispose() => weight.Dispose();
}

/// <summary>Shorthand for callers of <see cref="ILinear"/>.</summary>
internal static class LinearExtensions
{
    /// <summary>The product of a layer without anything around it, with a rented result for the rows of <paramref name="x"/>.</summary>
    public static FusedProduct Fused(this ILinear linear, Tensor x, in Pass pass) =>
        new(linear.Weight, linear.Bias, pass.Rent(new Shape(x.Shape.Rows, linear.Weight.Out)));

    /// <summary>y += layer(x); what does so in two steps takes <paramref name="scratch"/>, of the shape of y.</summary>
    public static void AddTo(this ILinear linear, Tensor x, Tensor scratch, Tensor y, IFusedKernels fused, in Pass pass)
    {
        if (!fused.TryAdd(x, new FusedProduct(linear.Weight, linear.Bias, y)))
        {
            linear.Forward(x, scratch, pass);
            Ops.Add.Forward(pass.Backend, scratch, y);
        }
    }

    /// <summary>x <c>[rows, in]</c> to a rented <c>[rows, out]</c>.</summary>
    public static Tensor Rent(this ILinear linear, Tensor x, in Pass pass)
    {
        Tensor y = pass.Rent(new Shape(x.Shape.Rows, linear.Weight.Out));
        linear.Forward(x, y, pass);
        return y;
    }

    /// <summary>See <see cref="ILinear.AddTo"/>: the result first, then the sum.</summary>
    public static void AddSeparately(this ILinear linear, Tensor x, Tensor free, Tensor y, in Pass pass, bool last)
    {
        using Workspace.Scope? scratch = pass.BeginScratch();
        Tensor result = pass.Briefly(free);
        if (last && pass.Tape is { IsRerunning: true } tape)
        {
            tape.Unread(result);
            tape.Unread(y);
        }

        linear.Forward(x, result, pass);
        Ops.Add.Forward(pass.Backend, result, y);
    }
}
