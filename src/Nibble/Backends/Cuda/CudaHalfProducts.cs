using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>
/// Products of training in BF16, sums in F32, on tensor cores by cuBLASLt: what is not BF16 is rounded first, packed weights are decoded
/// in chunks. Rows of results may be longer than the weight has features: rows of odd lengths would keep products off the fast ways.
/// </summary>
internal sealed class CudaHalfProducts(CachingMemory memory, CudaProducts products)
{
    // Few chunks: each further one of a gradient reads and writes all of it again.
    private const nint ScratchBytes = 192 << 20, SmallScratchBytes = 48 << 20, MostFilledBytes = 1 << 30;

    // What cuBLASLt's kernels with an end of their own want: 16 bytes.
    private const nint Alignment = 16 / sizeof(ushort);

    // A training of few tokens is one that must fit a small card.
    private const nint FewRows = 1024;

    /// <summary>While a pass trains: its matrices as BF16.</summary>
    public CudaHalfCopies? Copies { get; set; }

    /// <summary>True if one of the tensors is BF16.</summary>
    public static bool Takes(Tensor a, Tensor b) => a.DType == DType.BF16 || b.DType == DType.BF16;

    /// <summary>y (+)= x·Wᵀ + bias.</summary>
    public void Multiply(CudaPacking weight, Tensor x, Tensor? bias, Tensor y, bool add)
    {
        nint rows = y.Shape.Rows;
        if (rows == 0 || weight.Out == 0)
        {
            return;
        }

        if (weight.In == 0 || weight.Activations != ActivationType.F32)
        {
            MultiplyFloats(weight, x, bias, y, add);
            return;
        }

        using CudaStorage? ownX = AsHalf(x, out nint xs);
        if (bias is not { DType: not DType.F32 } && y.Shape.Columns == weight.Out
            && products.TryMultiplyHalf(weight, new CudaProduct(xs, rows, CudaStorage.AddressOf(bias), CudaStorage.AddressOf(y), weight.Out, 0, weight.Out, add), y.DType))
        {
            return;
        }

        using CudaStorage? ownBias = bias is null || y.DType == DType.F32 ? null : AsHalf(bias, out _);
        nint shift = ownBias?.Address ?? CudaStorage.AddressOf(bias);
        foreach ((nint first, nint count, nint matrix) in Parts(weight, bias is null ? y.Shape.Columns : weight.Out, rows))
        {
            nint part = first * y.DType.Size();
            memory.Device.Multiply(new GemmCall(
                matrix, xs, CudaStorage.AddressOf(y) + part, shift == 0 ? 0 : shift + part, count, rows, weight.In, true, false, weight.In, weight.In,
                y.Shape.Columns, DType.BF16, add, y.DType));
        }
    }

    /// <summary>y = factor·x·Wᵀ in one product, for a matrix that is trained; false where that has none.</summary>
    public bool TryMultiplyScaled(CudaPacking weight, Tensor x, float factor, Tensor y)
    {
        nint rows = y.Shape.Rows;
        if (rows == 0 || weight.In == 0 || y.Shape.Columns != weight.Out || Copies is not { } copies || !copies.TryFind(weight, out nint matrix, out _))
        {
            return false;
        }

        using CudaStorage? ownX = AsHalf(x, out nint xs);
        memory.Device.Multiply(new GemmCall(
            matrix, xs, CudaStorage.AddressOf(y), 0, weight.Out, rows, weight.In, true, false, weight.In, weight.In, weight.Out, DType.BF16, false, y.DType)
        {
            Factors = (factor, 0),
        });
        return true;
    }

    /// <summary>dx (+)= dy·W.</summary>
    public void MultiplyBack(Tensor dy, CudaPacking weight, Tensor dx, bool add)
    {
        nint rows = dy.Shape.Rows;
        if (rows == 0 || weight.In == 0)
        {
            return;
        }

        using CudaStorage? own = AsHalf(dy, out nint slopes);
        foreach ((nint first, nint count, nint matrix) in Parts(weight, dy.Shape.Columns, rows))
        {
            memory.Device.Multiply(new GemmCall(
                matrix, slopes + (first * sizeof(ushort)), CudaStorage.AddressOf(dx), 0, weight.In, rows, count, false, false, weight.In, dy.Shape.Columns, weight.In,
                DType.BF16, add || first > 0, dx.DType));
        }
    }

    /// <summary>y = gelu(x·Wᵀ + bias), x and y BF16, by the products of cuBLASLt; false where others are faster, or it can't.</summary>
    public bool TryMultiplyGelu(CudaPacking weight, Tensor x, Tensor? bias, Tensor y)
    {
        nint rows = y.Shape.Rows;
        if (bias is null || x.DType != DType.BF16 || y.DType != DType.BF16 || rows == 0 || y.Shape.Columns != weight.Out || weight.In == 0 || weight.Activations != ActivationType.F32
            || !Fits(weight, x, y) || products.HasHalf(weight, rows))
        {
            return false;
        }

        using CudaStorage? ownBias = AsHalf(bias, out nint shift);
        foreach ((nint first, nint count, nint matrix) in Parts(weight, weight.Out, rows))
        {
            nint part = first * sizeof(ushort);
            GemmCall call = new(
                matrix, CudaStorage.AddressOf(x), CudaStorage.AddressOf(y) + part, shift + part, count, rows, weight.In, true, false, weight.In, weight.In, weight.Out, DType.BF16, false, DType.BF16)
            {
                End = GemmEnd.Gelu,
            };
            if (!memory.Device.Has(call))
            {
                return false;
            }

            memory.Device.Multiply(call);
        }

        return true;
    }

    /// <summary>True if cuBLASLt multiplies back through a layer and the GELU before it at once; not where the weight comes in parts, whose sums are no product.</summary>
    public bool HasMultiplyBackGelu(Tensor dy, CudaPacking weight, Tensor x)
    {
        // Whatever is rented or copied starts where the allocator's blocks do.
        const nint own = 256;
        return x.DType == DType.BF16 && dy.Shape.Rows > 0 && weight.In > 0 && dy.Shape.Columns == weight.Out && weight.Out <= MostAtOnce(weight, dy.Shape.Rows) && Fits(weight, x, x)
            && memory.Device.Has(BackGelu(weight, own, dy.DType == DType.BF16 ? CudaStorage.AddressOf(dy) : own, dy.Shape.Rows, CudaStorage.AddressOf(x), own));
    }

    /// <summary>dx = (dy·W) · gelu′(x), x and dx BF16, where there is such a product.</summary>
    public void MultiplyBackGelu(Tensor dy, CudaPacking weight, Tensor x, Tensor dx)
    {
        using CudaStorage? own = AsHalf(dy, out nint slopes);
        foreach ((_, _, nint matrix) in Parts(weight, weight.Out, dy.Shape.Rows))
        {
            memory.Device.Multiply(BackGelu(weight, matrix, slopes, dy.Shape.Rows, CudaStorage.AddressOf(x), CudaStorage.AddressOf(dx)));
        }
    }

    private static GemmCall BackGelu(CudaPacking weight, nint matrix, nint slopes, nint rows, nint x, nint dx) => new(
        matrix, slopes, dx, 0, weight.In, rows, weight.Out, false, false, weight.In, weight.Out, weight.In, DType.BF16, false, DType.BF16)
    {
        End = GemmEnd.GeluSlope, Aux = x,
    };

    /// <summary>dw (+)= dyᵀ·x, in F32.</summary>
    public void MultiplyWeight(Tensor dy, Tensor x, nint outFeatures, nint inFeatures, Tensor dw, bool add)
    {
        if (x.Shape.Count > 0 && outFeatures > 0)
        {
            using CudaStorage? ownX = AsHalf(x, out nint xs), ownDy = AsHalf(dy, out nint slopes);
            // Of an odd number of features the last few go alone: all of them together would take the products without wide loads, half as fast.
            nint whole = dy.Shape.Columns % Alignment == 0 && outFeatures > Alignment ? outFeatures / Alignment * Alignment : outFeatures;
            for (nint first = 0; first < outFeatures; first += whole)
            {
                memory.Device.Multiply(new GemmCall(
                    xs, slopes + (first * sizeof(ushort)), CudaStorage.AddressOf(dw) + (first * inFeatures * sizeof(float)), 0, inFeatures, nint.Min(whole, outFeatures - first), x.Shape.Rows, false, true,
                    inFeatures, dy.Shape.Columns, inFeatures, DType.BF16, add));
            }
        }
    }

    /// <summary>Copies elements, rounded to what the target holds.</summary>
    public void Copy(Tensor source, Tensor target) => Convert(CudaStorage.AddressOf(source), source.DType, CudaStorage.AddressOf(target), target.DType, target.Shape.Count);

    // The weight as BF16, in parts; each is valid until the next is asked for. Where rows of activations are wider than the weight is high,
    // rows of zeros follow: products of odd heights are several times slower.
    private IEnumerable<(nint First, nint Count, nint Matrix)> Parts(CudaPacking weight, nint width, nint tokens)
    {
        if (Copies is { } copies && copies.TryFind(weight, out nint copy, out nint rows))
        {
            yield return (0, width <= rows ? width : weight.Out, copy);
            yield break;
        }

        if (width > weight.Out && width * weight.In * sizeof(ushort) <= MostFilledBytes)
        {
            using CudaStorage filled = memory.Rent(width * weight.In * sizeof(ushort), "decoded weights");
            using CudaStorage? decoded = products.Decode(weight, 0, weight.Out, DType.BF16, out nint own);
            nint bytes = weight.Out * weight.In * sizeof(ushort);
            memory.Device.Copy(own, filled.Address, bytes);
            memory.Device.Clear(filled.Address + bytes, filled.ByteLength - bytes);
            yield return (0, width, filled.Address);
            yield break;
        }

        nint most = MostAtOnce(weight, tokens);
        for (nint start = 0; start < weight.Out; start += most)
        {
            nint count = nint.Min(most, weight.Out - start);
            using CudaStorage? scratch = products.Decode(weight, start, count, DType.BF16, out nint matrix);
            yield return (start, count, matrix);
        }
    }

    // Rows of a weight that are BF16 at once.
    private nint MostAtOnce(CudaPacking weight, nint tokens) => Copies?.TryFind(weight, out _, out _) == true || weight.Matrix(DType.BF16) != 0
        ? weight.Out
        : nint.Max(64, (tokens <= FewRows ? SmallScratchBytes : ScratchBytes) / (weight.In * sizeof(ushort)) / 64 * 64);

    private static bool Fits(CudaPacking weight, Tensor x, Tensor y) =>
        weight.In % Alignment == 0 && weight.Out % Alignment == 0 && (CudaStorage.AddressOf(x) | CudaStorage.AddressOf(y)) % (Alignment * sizeof(ushort)) == 0;

    private void Convert(nint source, DType from, nint target, DType to, nint count)
    {
        if (count == 0)
        {
            return;
        }

        if (from == to)
        {
            memory.Device.Copy(source, target, count * to.Size());
        }
        else
        {
            memory.Device.Launch(CudaKernelNames.Of(from == DType.F32 ? "copy_fb" : "copy_bf"), CudaGrid.Eights(count), [source, target, count]);
        }
    }

    /// <summary>The elements as BF16: where they stand, or in scratch memory that the caller gives back.</summary>
    private CudaStorage? AsHalf(Tensor tensor, out nint address)
    {
        if (tensor.DType == DType.BF16)
        {
            address = CudaStorage.AddressOf(tensor);
            return null;
        }

        CudaStorage scratch = memory.Rent(tensor.Shape.Count * sizeof(ushort), "activations");
        Convert(CudaStorage.AddressOf(tensor), tensor.DType, scratch.Address, DType.BF16, tensor.Shape.Count);
        address = scratch.Address;
        return scratch;
    }

    // Weights whose product rounds its activations read them as F32.
    private void MultiplyFloats(CudaPacking weight, Tensor x, Tensor? bias, Tensor y, bool add)
    {
        using CudaStorage input = memory.Rent(x.Shape.Count * sizeof(float), "activations"), result = memory.Rent(y.Shape.Count * sizeof(float), "activations");
        Convert(CudaStorage.AddressOf(x), x.DType, input.Address, DType.F32, x.Shape.Count);
        if (add)
        {
            Convert(CudaStorage.AddressOf(y), y.DType, result.Address, DType.F32, y.Shape.Count);
        }

        products.Multiply(weight, new CudaProduct(input.Address, y.Shape.Rows, CudaStorage.AddressOf(bias), result.Address, weight.Out, 0, weight.Out, add));
        Convert(result.Address, DType.F32, CudaStorage.AddressOf(y), y.DType, y.Shape.Count);
    }
}
