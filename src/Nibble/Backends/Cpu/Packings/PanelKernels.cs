using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>How a code, a scale and an offset give a value.</summary>
internal enum PanelForm
{
    /// <summary>The code, or its level, itself: scales are applied by <see cref="PanelKernels.Scale"/>.</summary>
    Raw,

    /// <summary>(code − offset) · scale.</summary>
    ZeroPoint,

    /// <summary>code · scale + offset.</summary>
    Bias,

    /// <summary>levels[code] · scale.</summary>
    Level,

    /// <summary>levels[code].</summary>
    RawLevel,
}

/// <summary>A run of columns of one panel, to be decoded; the first column starts a chunk.</summary>
internal unsafe struct PanelSpan
{
    public uint* Words;
    public int Bits;
    public PanelForm Form;
    public nint Columns;

    /// <summary>Of the first group, one per lane.</summary>
    public float* Scales, Offsets;

    /// <summary>Floats from one group to the next.</summary>
    public int ScaleStride, OffsetStride;

    /// <summary>Columns until the second group starts.</summary>
    public nint FirstGroup;

    public nint GroupSize;

    /// <summary>16 levels, and their bytes as tables (<see cref="LevelRows"/>).</summary>
    public float* Levels;
}

/// <summary>Kernels on packed codes with F32 activations, compiled once for each kind of vector.</summary>
internal abstract unsafe class PanelKernels
{
    /// <summary>Values of a span, <c>destination[k·lanes + lane]</c>: bit for bit those of the quantized weight.</summary>
    public abstract void Decode(in PanelSpan span, float* destination);

    /// <summary>Applies scale and offset to raw codes or levels, with the group of each column: any order of groups.</summary>
    public abstract void Scale(in PanelSpan span, int* groups, float* values);

    /// <summary>y[two panels] += x · the panels of two spans of the same columns.</summary>
    public abstract void MultiplyRow(in PanelSpan first, in PanelSpan second, float* x, float* y);

    /// <summary>y[row·stride …] += x[row] · panel for four rows.</summary>
    public abstract void MultiplyRows(in PanelSpan span, in RowPointers x, float* y, nint stride);

    /// <summary>sums[i] += Σ x[k]·values[k][i] over two panels, one chain of multiply-adds per element.</summary>
    public abstract void AddRow(float* x, nint count, float* first, float* second, float* sums);
}

/// <inheritdoc/>
internal sealed unsafe class PanelKernels<S, V> : PanelKernels
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;

    public override void Decode(in PanelSpan span, float* destination)
    {
        switch (span.Form)
        {
            case PanelForm.Raw: Decode<RawForm>(span, destination); break;
            case PanelForm.ZeroPoint: Decode<ZeroPointForm>(span, destination); break;
            case PanelForm.Bias: Decode<BiasForm>(span, destination); break;
            case PanelForm.Level: PanelDecoder<S, V, LevelForm, Bits4>.Decode(span, destination); break;
            default: PanelDecoder<S, V, RawLevelForm, Bits4>.Decode(span, destination); break;
        }
    }

    public override void Scale(in PanelSpan span, int* groups, float* values)
    {
        switch (span.Form)
        {
            case PanelForm.ZeroPoint: Scale<ZeroPointForm>(span, groups, values); break;
            case PanelForm.Bias: Scale<BiasForm>(span, groups, values); break;
            default: Scale<LevelForm>(span, groups, values); break;
        }
    }

    public override void MultiplyRow(in PanelSpan first, in PanelSpan second, float* x, float* y)
    {
        switch (first.Form)
        {
            case PanelForm.ZeroPoint: MultiplyRow<ZeroPointForm>(first, second, x, y); break;
            case PanelForm.Bias: MultiplyRow<BiasForm>(first, second, x, y); break;
            default: MultiplyLevels(first, second, x, y); break;
        }
    }

    public override void MultiplyRows(in PanelSpan span, in RowPointers x, float* y, nint stride)
    {
        switch (span.Form)
        {
            case PanelForm.ZeroPoint: MultiplyRows<ZeroPointForm>(span, x, y, stride); break;
            case PanelForm.Bias: MultiplyRows<BiasForm>(span, x, y, stride); break;
            default: PanelBatches<S, V, LevelForm, Bits4>.Add(span, x, y, stride); break;
        }
    }

    [MethodImpl(Hot)]
    public override void AddRow(float* x, nint count, float* first, float* second, float* sums)
    {
        int n = S.Count;
        V s0 = S.Load(sums), s1 = S.Load(sums + n), s2 = S.Load(sums + (2 * n)), s3 = S.Load(sums + (3 * n));
        for (nint k = 0; k < count; k++)
        {
            V value = S.Set(x[k]);
            s0 = S.MultiplyAdd(value, S.Load(first), s0);
            s1 = S.MultiplyAdd(value, S.Load(first + n), s1);
            s2 = S.MultiplyAdd(value, S.Load(second), s2);
            s3 = S.MultiplyAdd(value, S.Load(second + n), s3);
            first += 2 * n;
            second += 2 * n;
        }

        S.Store(s0, sums);
        S.Store(s1, sums + n);
        S.Store(s2, sums + (2 * n));
        S.Store(s3, sums + (3 * n));
    }

    private static void MultiplyRows<F>(in PanelSpan span, in RowPointers x, float* y, nint stride)
        where F : struct, IPanelForm
    {
        switch (span.Bits)
        {
            case 2: PanelBatches<S, V, F, Bits2>.Add(span, x, y, stride); break;
            case 3: PanelBatches<S, V, F, Bits2>.AddThree(span, x, y, stride); break;
            case 4: PanelBatches<S, V, F, Bits4>.Add(span, x, y, stride); break;
            default: PanelBatches<S, V, F, Bits8>.Add(span, x, y, stride); break;
        }
    }

    private static void MultiplyLevels(in PanelSpan first, in PanelSpan second, float* x, float* y)
    {
        if (typeof(V) == typeof(Vector256<float>) && Avx2.IsSupported)
        {
            LevelRows.Add(first, x, y);
            LevelRows.Add(second, x, y + (2 * S.Count));
        }
        else
        {
            PanelRows<S, V, LevelForm, Bits4>.Add(first, second, x, y);
        }
    }

    private static void MultiplyRow<F>(in PanelSpan first, in PanelSpan second, float* x, float* y)
        where F : struct, IPanelForm
    {
        switch (first.Bits)
        {
            case 2: PanelRows<S, V, F, Bits2>.Add(first, second, x, y); break;
            case 4: PanelRows<S, V, F, Bits4>.Add(first, second, x, y); break;
            case 8: PanelRows<S, V, F, Bits8>.Add(first, second, x, y); break;
            default:
                PanelRows<S, V, F, Bits2>.AddThree(first, x, y);
                PanelRows<S, V, F, Bits2>.AddThree(second, x, y + (2 * S.Count));
                break;
        }
    }

    private static void Decode<F>(in PanelSpan span, float* destination)
        where F : struct, IPanelForm
    {
        switch (span.Bits)
        {
            case 2: PanelDecoder<S, V, F, Bits2>.Decode(span, destination); break;
            case 3: PanelDecoder<S, V, F, Bits2>.DecodeThree(span, destination); break;
            case 4: PanelDecoder<S, V, F, Bits4>.Decode(span, destination); break;
            default: PanelDecoder<S, V, F, Bits8>.Decode(span, destination); break;
        }
    }

    [MethodImpl(Hot)]
    private static void Scale<F>(in PanelSpan span, int* groups, float* values)
        where F : struct, IPanelForm
    {
        for (nint k = 0; k < span.Columns; k++, values += 2 * S.Count)
        {
            float* scales = span.Scales + ((nint)groups[k] * span.ScaleStride), offsets = span.Offsets + ((nint)groups[k] * span.OffsetStride);
            S.Store(F.Apply<S, V>(S.Load(values), S.Load(scales), S.Load(offsets)), values);
            float* second = values + S.Count;
            S.Store(F.Apply<S, V>(S.Load(second), S.Load(scales + S.Count), S.Load(offsets + S.Count)), second);
        }
    }
}
