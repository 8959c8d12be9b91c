using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>Part of a product: output features First … First + Count − 1, all addresses on the card.</summary>
internal readonly record struct CudaProduct(nint X, nint Rows, nint Bias, nint Y, nint YStride, nint First, nint Count, bool Add = false);

/// <summary>
/// Products with weights of any packing. Up to 8 rows read the packed weight once (GEMV, F32 throughout); more rows multiply by
/// cuBLASLt, after a chunk of the weight was turned into a matrix of the compute type.
/// </summary>
internal sealed unsafe class CudaProducts(CachingMemory memory, DType compute)
{
    private const int GemvThreads = 128;
    private const int FeaturesPerBlock = 4;
    // Every block of a product normalizes all rows by itself: beyond these a launch of its own is faster.
    private const int MostNormedRows = 2;

    private const nint ScratchBytes = 64 << 20, HalfScratchBytes = 256 << 20;
    private readonly TensorProducts _tensor = new(memory);
    private readonly WideProducts _wide = new(memory);
    private readonly CudaInt8Products _int8 = new(memory);

    /// <summary>Products with activations of 8 bits.</summary>
    public CudaInt8Products Int8 => _int8;

    /// <summary>y (+)= x·Wᵀ + bias.</summary>
    public void Multiply(CudaPacking weight, in CudaProduct call)
    {
        if (call.Rows == 0 || call.Count == 0)
        {
            return;
        }

        if (weight.In == 0)
        {
            FillWithBias(call);
            return;
        }

        if (weight.Activations == ActivationType.F32)
        {
            MultiplyFloats(weight, call);
            return;
        }

        if (_int8.TryMultiply(weight, call))
        {
            return;
        }

        using CudaStorage rounded = memory.Rent(call.Rows * weight.In * sizeof(float), "activations");
        RoundActivations(weight, call, rounded.Address);
        MultiplyFloats(weight, call with { X = rounded.Address });
    }

    /// <summary>Products of the same few rows in one launch, or of more rows that are rounded once; see <see cref="IFusedKernels"/>.</summary>
    public bool TryMultiplyFew(in InputNorm norm, nint x, nint rows, ReadOnlySpan<FusedProduct> calls, bool gated) =>
        compute == DType.BF16 && ((AllNormalize(norm, rows) && _tensor.TryMultiply(norm, x, rows, calls, gated)) || TryMultiplyInt8(norm, x, rows, calls, gated));

    /// <summary>Gate, up, down and sum where rows are rounded for them.</summary>
    public bool TryGatedAdd(in InputNorm norm, nint x, nint rows, ReadOnlySpan<FusedProduct> gateAndUp, in FusedProduct down) =>
        compute == DType.BF16 && _int8.TryGatedAdd(norm, x, rows, gateAndUp, down);

    /// <summary>y (+)= x·Wᵀ + bias with x in BF16, and y in it or in F32, straight from a packed weight, if there is such a product.</summary>
    public bool TryMultiplyHalf(CudaPacking weight, in CudaProduct call, DType y) =>
        _wide.TryMultiply(weight, call, CudaNumber.BF16, y == DType.BF16 ? CudaNumber.BF16 : CudaNumber.F32);

    /// <summary>True if <see cref="TryMultiplyHalf"/> has a product for so many rows.</summary>
    public bool HasHalf(CudaPacking weight, nint rows) => _wide.Takes(weight, rows);

    /// <summary>dx += dy·W.</summary>
    public void MultiplyBack(nint dy, nint rows, CudaPacking weight, nint dx)
    {
        if (rows == 0 || weight.In == 0)
        {
            return;
        }

        foreach ((nint first, nint count) in Chunks(weight, 0, weight.Out, DType.F32))
        {
            using CudaStorage? scratch = Decode(weight, first, count, DType.F32, out nint matrix);
            memory.Device.Multiply(new GemmCall(
                matrix, dy + (first * sizeof(float)), dx, 0, weight.In, rows, count, false, false, weight.In, weight.Out, weight.In, DType.F32, Add: true));
        }
    }

    /// <summary>dw (+)= dyᵀ·x, row-major <c>[out, in]</c>.</summary>
    public void MultiplyWeight(nint dy, nint x, nint rows, nint outFeatures, nint inFeatures, nint dw, bool add = true)
    {
        if (rows > 0 && outFeatures > 0 && inFeatures > 0)
        {
            memory.Device.Multiply(new GemmCall(x, dy, dw, 0, inFeatures, outFeatures, rows, false, true, inFeatures, outFeatures, inFeatures, DType.F32, add));
        }
    }

    /// <summary>Writes rows of a weight as F32 or BF16: rows of ids (on the card), or from <paramref name="first"/> on if that is 0.</summary>
    public void ReadRows(CudaPacking weight, nint ids, nint first, nint count, nint destination, DType dtype)
    {
        if (count == 0 || weight.In == 0)
        {
            return;
        }

        fixed (PackedArgument* packed = &weight.Argument)
        {
            int type = (int)(dtype == DType.BF16 ? CudaNumber.BF16 : CudaNumber.F32);
            memory.Device.Launch(
                CudaKernelNames.Rows(weight.Format), new LaunchShape(count, 256), [KernelArgument.Structure(packed), ids, first, destination, type]);
        }
    }

    private static bool AllNormalize(in InputNorm norm, nint rows) => norm.Kind == NormKind.None || rows <= MostNormedRows;

    // Rows that each block rounds by itself are normalized by itself too.
    private bool TryMultiplyInt8(in InputNorm norm, nint x, nint rows, ReadOnlySpan<FusedProduct> calls, bool gated) =>
        (AllNormalize(norm, rows) || rows > _int8.MostFewRows) && _int8.TryMultiply(norm, x, rows, calls, gated);

    private void MultiplyFloats(CudaPacking weight, in CudaProduct call)
    {
        if (compute == DType.BF16 && (_wide.TryMultiply(weight, call, CudaNumber.F32, CudaNumber.F32) || _tensor.TryMultiply(weight, call)))
        {
            return;
        }

        if (call.Rows > CudaKernelNames.GemvRows[^1])
        {
            MultiplyMany(weight, call);
            return;
        }

        int rows = (int)call.Rows, variant = CudaKernelNames.GemvRows.First(most => most >= rows);
        fixed (PackedArgument* packed = &weight.Argument)
        {
            memory.Device.Launch(
                CudaKernelNames.Gemv(weight.Format, variant),
                new LaunchShape((call.Count + FeaturesPerBlock - 1) / FeaturesPerBlock, GemvThreads),
                [KernelArgument.Structure(packed), call.X, rows, call.Bias, call.Y, call.YStride, call.First, call.Count, call.Add ? 1 : 0]);
        }
    }

    private void MultiplyMany(CudaPacking weight, in CudaProduct call)
    {
        nint elements = call.Rows * weight.In;
        using CudaStorage? half = compute == DType.F32 ? null : memory.Rent(elements * compute.Size(), "activations");
        if (half is not null)
        {
            memory.Device.Launch(CudaKernelNames.Of("to_bf16_copy"), CudaGrid.Elements(elements), [call.X, half.Address, elements]);
        }

        foreach ((nint first, nint count) in Chunks(weight, call.First, call.Count, compute))
        {
            using CudaStorage? scratch = Decode(weight, first, count, compute, out nint matrix);
            nint bias = call.Bias == 0 ? 0 : call.Bias + (first * sizeof(float));
            memory.Device.Multiply(new GemmCall(
                matrix, half?.Address ?? call.X, call.Y + ((first - call.First) * sizeof(float)), bias, count, call.Rows, weight.In, true, false, weight.In,
                weight.In, call.YStride, compute, call.Add));
        }
    }

    private static IEnumerable<(nint First, nint Count)> Chunks(CudaPacking weight, nint first, nint count, DType dtype)
    {
        nint most = weight.Matrix(dtype) != 0 ? count : nint.Max(64, (dtype == DType.F32 ? ScratchBytes : HalfScratchBytes) / (weight.In * dtype.Size()) / 64 * 64);
        for (nint start = 0; start < count; start += most)
        {
            yield return (first + start, nint.Min(most, count - start));
        }
    }

    // The rows as a matrix: the packing's own memory, or scratch memory that the caller gives back.
    public CudaStorage? Decode(CudaPacking weight, nint first, nint count, DType dtype, out nint matrix)
    {
        nint own = weight.Matrix(dtype);
        if (own != 0)
        {
            matrix = own + (first * weight.In * dtype.Size());
            return null;
        }

        CudaStorage scratch = memory.Rent(count * weight.In * dtype.Size(), "decoded weights");
        if (dtype != DType.BF16 || !_tensor.TryExpand(weight, first, count, scratch.Address))
        {
            ReadRows(weight, 0, first, count, scratch.Address, dtype);
        }

        matrix = scratch.Address;
        return scratch;
    }

    private void FillWithBias(in CudaProduct call)
    {
        if (!call.Add)
        {
            nint bias = call.Bias == 0 ? 0 : call.Bias + (call.First * sizeof(float));
            memory.Device.Launch(CudaKernelNames.Of("fill_rows"), CudaGrid.Elements(call.Rows * call.Count), [bias, call.Y, call.YStride, call.Count, call.Rows]);
        }
    }

    private void RoundActivations(CudaPacking weight, in CudaProduct call, nint rounded)
    {
        float threshold = weight is LlmInt8CudaPacking llm ? llm.Threshold : 0;
        nint counter = weight is LlmInt8CudaPacking counted ? counted.Counts : 0;
        using CudaStorage? marks = threshold > 0 ? memory.Rent(weight.In, "activations") : null;
        if (marks is not null)
        {
            memory.Device.Launch(
                CudaKernelNames.Of("outlier_columns"), CudaGrid.Elements(weight.In), [call.X, call.Rows, weight.In, threshold, marks.Address, counter]);
        }

        memory.Device.Launch(
            CudaKernelNames.Of("round_rows"), new LaunchShape(call.Rows, 256), [call.X, rounded, weight.In, marks?.Address ?? 0, threshold]);
    }
}
