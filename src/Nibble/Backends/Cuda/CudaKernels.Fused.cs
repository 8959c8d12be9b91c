using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>Several ops of the forward pass in one launch.</summary>
internal sealed unsafe partial class CudaKernels : IFusedKernels
{
    // Every block of a product normalizes all rows by itself: beyond these a launch of its own is faster.
    private const int MostNormedRows = 2;

    private readonly CudaToken _token = new(memory);

    public bool TryProject(in InputNorm norm, Tensor x, ReadOnlySpan<FusedProduct> calls) => Few(norm, x, calls, gated: false);

    public bool TryGate(in InputNorm norm, Tensor x, in FusedProduct gate, in FusedProduct up) => Few(norm, x, [gate, up], gated: true);

    public bool TryAdd(Tensor x, in FusedProduct product)
    {
        Multiply(x, product.Weight, product.Bias, product.Result, add: true);
        return true;
    }

    public bool TryAttend(in AttentionArguments arguments, Tensor key, Tensor value, in RopeArguments? rope) =>
        _token.TryAttend(arguments, key, value, rope, Slot);

    private bool Few(in InputNorm norm, Tensor x, ReadOnlySpan<FusedProduct> calls, bool gated) =>
        x.DType == DType.F32 && calls[0].Result.DType == DType.F32 && x.Shape.Rows > 0 && (norm.Kind == NormKind.None || x.Shape.Rows <= MostNormedRows)
        && products.TryMultiplyFew(norm, At(x), x.Shape.Rows, calls, gated);
}
