using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu;

/// <summary>One product y = x·Wᵀ + bias over the output features First … First + Count − 1 of a packing. All pointers are F32.</summary>
/// <param name="Threads">The pool that the product may use.</param>
/// <param name="X"><c>[Rows, In]</c>, contiguous.</param>
/// <param name="Rows">Rows of x and y, ≥ 0.</param>
/// <param name="Bias">One value per output feature of the whole matrix (index it by feature, not by column of y), or null.</param>
/// <param name="Y">Row r, feature First + j goes to <c>Y[r·YStride + j]</c>.</param>
/// <param name="YStride">Elements between rows of y.</param>
/// <param name="First">First output feature, a multiple of 64 (so of every panel width and of a byte of codes).</param>
/// <param name="Count">Output features.</param>
internal readonly unsafe record struct CpuMatMul(
    CpuThreads Threads, nint X, nint Rows, nint Bias, nint Y, nint YStride, nint First, nint Count)
{
    /// <summary>x as a pointer (a record can't hold one).</summary>
    public float* Input => (float*)X;

    /// <summary>The bias of <see cref="First"/> as a pointer, or null.</summary>
    public float* FirstBias => Bias == 0 ? null : (float*)Bias + First;

    /// <summary>y as a pointer.</summary>
    public float* Output => (float*)Y;
}

/// <summary>
/// How the CPU keeps a weight <c>[Out, In]</c>. A packing implements the decoding of a row (embedding, saving) and the product;
/// for many rows it can hand the product to <see cref="CpuVariant.Gemm(CpuPacking, in CpuMatMul)"/>, which decodes one panel of output features at a time.
/// </summary>
internal abstract unsafe class CpuPacking : IPackedWeight
{
    protected CpuPacking(nint outFeatures, nint inFeatures, CpuVariant variant)
    {
        Out = outFeatures;
        In = inFeatures;
        Variant = variant;
    }

    public nint Out { get; }

    public nint In { get; }

    /// <summary>The kernel variant the packing is laid out for.</summary>
    public CpuVariant Variant { get; }

    public abstract nint ByteLength { get; }

    public abstract string Name { get; }

    public virtual ActivationType Activations => ActivationType.F32;

    public virtual double? OutlierShare => null;

    /// <summary>All weights as F32 panels, <c>[panel][k][lane]</c>, if the packing keeps them so; else null.</summary>
    public virtual float* FloatPanels => null;

    /// <summary>The same as a tensor that shares the memory, padding included, for training; null unless <see cref="FloatPanels"/> exist.</summary>
    public virtual Tensor? FloatValues => null;

    /// <summary>Takes the numbers of F32 panels of the same shape, rounded to the packing's dtype; only dense packings can.</summary>
    public virtual void Round(CpuThreads threads, float* panels) => throw new NotSupportedException($"a {Name} packing can't be written to");

    public abstract QuantizedWeight? Unpack();

    /// <summary>Writes everything that the constructor from a <see cref="PackReader"/> needs.</summary>
    public abstract void Save(PackWriter writer);

    /// <summary>Writes the values of columns start … start + count − 1 of a row.</summary>
    public abstract void DecodeRow(nint row, nint start, nint count, float* destination);

    /// <summary>
    /// Writes a panel: <c>destination[k·PanelWidth + j]</c> = value of row first + j, column start + k, for j &lt; rows ≤
    /// <see cref="CpuVariant.PanelWidth"/>; lanes from <paramref name="rows"/> on are zero. This form goes row by row; packings whose
    /// products of many rows matter override it.
    /// </summary>
    public virtual void DecodePanel(nint first, int rows, nint start, nint count, float* destination)
    {
        int width = Variant.PanelWidth;
        using CpuScratch.Lease scratch = CpuScratch.Rent(count * sizeof(float));
        float* row = (float*)scratch.Pointer;
        for (int j = 0; j < width; j++)
        {
            if (j < rows)
            {
                DecodeRow(first + j, start, count, row);
            }
            else
            {
                new Span<float>(row, checked((int)count)).Clear();
            }

            for (nint k = 0; k < count; k++)
            {
                destination[(k * width) + j] = row[k];
            }
        }
    }

    /// <summary>
    /// Writes a panel rounded to BF16, as pairs of neighbouring columns: <c>destination[k/2·PanelWidth + j]</c> = value of column k, and of column k + 1 in the
    /// high half; (In + 1) / 2 lines, lanes from <paramref name="rows"/> on are zero.
    /// </summary>
    public virtual void DecodePairs(nint first, int rows, uint* destination)
    {
        const nint Block = 256;
        int width = Variant.PanelWidth;
        using CpuScratch.Lease scratch = CpuScratch.Rent(Block * width * sizeof(float));
        float* values = (float*)scratch.Pointer;
        for (nint k = 0; k < In; k += Block)
        {
            nint count = nint.Min(Block, In - k);
            DecodePanel(first, rows, k, count, values);
            BFloat16Layout.RoundPairs(values, count, width, destination + (k / 2 * width));
        }
    }

    /// <summary>The product in the numbers that are asked for: with <paramref name="half"/>, of many rows with both sides rounded to BF16.</summary>
    public void MatMul(in CpuMatMul call, BFloat16Kernels? half)
    {
        if (half is not null && Activations == ActivationType.F32 && call.Rows >= BFloat16Kernels.FewestRows && call.Count > 0 && In > 0)
        {
            Variant.Gemm(this, call, half);
        }
        else
        {
            MatMul(call);
        }
    }

    /// <summary>The product. Its result must not depend on the number of threads.</summary>
    public abstract void MatMul(in CpuMatMul call);

    public abstract void Dispose();
}
