using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>Several ops of the forward pass in one launch.</summary>
internal sealed unsafe partial class CudaKernels : IFusedKernels
{
    private const int BytesWarps = 8;

    private readonly CudaToken _token = new(memory);

    public bool TryProject(in InputNorm norm, Tensor x, ReadOnlySpan<FusedProduct> calls) => Few(norm, x, calls, gated: false);

    public bool TryGate(in InputNorm norm, Tensor x, in FusedProduct gate, in FusedProduct up) => Few(norm, x, [gate, up], gated: true);

    public bool TryGatedAdd(in InputNorm norm, Tensor x, in FusedProduct gate, in FusedProduct up, in FusedProduct down) =>
        IsFloats(x, gate) && down.Result.DType == DType.F32 && products.TryGatedAdd(norm, At(x), x.Shape.Rows, [gate, up], down);

    public bool TryAdd(Tensor x, in FusedProduct product)
    {
        Multiply(x, product.Weight, product.Bias, product.Result, add: true);
        return true;
    }

    public bool TryGelu(Tensor x, in FusedProduct product, GeluKind kind) =>
        kind == GeluKind.Tanh && half.TryMultiplyGelu((CudaPacking)product.Weight, x, product.Bias, product.Result);

    public bool TryAttend(in AttentionArguments arguments, Tensor key, Tensor value, in RopeArguments? rope) =>
        _token.TryAttend(arguments, key, value, rope, Slot);

    private bool Few(in InputNorm norm, Tensor x, ReadOnlySpan<FusedProduct> calls, bool gated) =>
        IsFloats(x, calls[0]) && products.TryMultiplyFew(norm, At(x), x.Shape.Rows, calls, gated);

    private static bool IsFloats(Tensor x, in FusedProduct product) => x.DType == DType.F32 && product.Result.DType == DType.F32 && x.Shape.Rows > 0;

    // Queries of F32 over a cache of BF16 are rounded to it.
    private void AttendHalf(in AttentionArguments a)
    {
        HoldsPlace |= Slot != 0;
        if (a.Query.DType == DType.BF16)
        {
            if (a.LogSums is null)
            {
                CudaFlash.ForwardOnce(memory, a);
            }
            else
            {
                CudaFlash.Forward(memory, a);
            }

            return;
        }

        using Tensor query = Rent(a.Query.Shape), output = Rent(a.Output.Shape);
        half.Copy(a.Query, query);
        CudaFlash.ForwardOnce(memory, a with { Query = query, Output = output });
        half.Copy(output, a.Output);
    }

    private Tensor Rent(Shape shape) => new(shape, DType.BF16, memory.Rent(shape.Count * sizeof(ushort), "activations"));

    private void AppendBytes(Tensor x, Tensor cache, int start)
    {
        HoldsPlace |= Slot != 0;
        nint rows = x.Shape[0] * x.Shape[1];
        if (x.Shape.Count > 0)
        {
            int heads = (int)x.Shape[1], length = (int)(x.Shape[0] / cache.Shape[0]);
            memory.Device.Launch(
                CudaKernelNames.Of("append_bytes"),
                new LaunchShape((rows + BytesWarps - 1) / BytesWarps, BytesWarps * 32),
                [x, (int)(x.DType == DType.BF16 ? CudaNumber.BF16 : CudaNumber.F32), cache, rows, length, heads, (int)cache.Shape[2], (int)x.Shape[2], start]);
        }
    }

    // The filled part of a cache of 8 bits as BF16.
    private Tensor Widen(Tensor cache, int slots)
    {
        int dim = (int)cache.Shape[3] - sizeof(float);
        Tensor wide = Rent(new Shape(cache.Shape[0], cache.Shape[1], slots, dim));
        memory.Device.Launch(CudaKernelNames.Of("widen_bytes"), CudaGrid.Elements(wide.Shape.Count), [cache, wide, wide.Shape.Count, slots, (int)cache.Shape[2], dim]);
        return wide;
    }
}
