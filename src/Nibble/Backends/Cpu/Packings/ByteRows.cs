using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>Arguments of one row of int8 activations times a run of groups of a whole panel.</summary>
internal unsafe struct ByteRow
{
    /// <summary>The first word of the run, and words from one vector of the panel to the next.</summary>
    public uint* Words;
    public nint Step;

    /// <summary>Strips (two vectors of rows) of the panel.</summary>
    public int Strips;

    /// <summary>Activations from the first column of the run on, in the order of <see cref="Int8Activations"/>, and their sum for each group.</summary>
    public sbyte* X;
    public int* Sums;

    /// <summary>Floats; for machine code numbers of <see cref="ScaleType"/> and <see cref="OffsetType"/>. Strides in numbers.</summary>
    public float* Scales, Offsets;
    public Tensors.DType ScaleType, OffsetType;
    public int ScaleStride, OffsetStride;
    public nint Groups, GroupChunks, LastChunks;
    public byte* Levels;

    /// <summary>One float a row of the panel: Σ over groups, added to in order.</summary>
    public float* Result;
}

/// <summary>
/// result += Σ over groups of scale·(Σ code·x − offset·Σ x): bit for bit what <see cref="ByteTiles{S, V, L, B, E}"/> computes for one row.
/// A panel of four vectors is multiplied as a whole, so that memory is read in one stream, each line once.
/// </summary>
internal static unsafe class ByteRows<S, V, L, B, E, F>
    where S : struct, ILanes<V>
    where V : unmanaged
    where L : struct, IByteLanes<B, V>
    where B : unmanaged
    where E : struct, IByteEpilogue
    where F : struct, IRowFormat
{
    // Two vectors of 16 lanes, or four of 8.
    private const int MostLanes = 32;

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void Add(in ByteRow t)
    {
        uint* pending = stackalloc uint[MostLanes];
        uint* words = t.Words;
        sbyte* x = t.X;
        nint step = t.Step;
        float* scales = t.Scales, offsets = t.Offsets;
        for (nint g = 0; g < t.Groups; g++, scales += t.ScaleStride, offsets += t.OffsetStride)
        {
            nint chunks = g == t.Groups - 1 ? t.LastChunks : t.GroupChunks;
            B n = L.Broadcast(t.Sums[g]);
            for (nint c = 0; c < chunks; c += F.Chunks)
            {
                nint count = nint.Min(F.Chunks, chunks - c);
                bool ends = c + count == chunks;
                if (t.Strips == 2)
                {
                    B s0 = Begin(c, pending), s1 = Begin(c, pending + L.Count), s2 = Begin(c, pending + (2 * L.Count)), s3 = Begin(c, pending + (3 * L.Count));
                    F.Add<L, B, V>(words, step, count, x, t.Levels, ref s0, ref s1, ref s2, ref s3);
                    End(ends, s0, n, 0, pending, t.Result, scales, offsets);
                    End(ends, s1, n, L.Count, pending, t.Result, scales, offsets);
                    End(ends, s2, n, 2 * L.Count, pending, t.Result, scales, offsets);
                    End(ends, s3, n, 3 * L.Count, pending, t.Result, scales, offsets);
                }
                else
                {
                    B s0 = Begin(c, pending), s1 = Begin(c, pending + L.Count);
                    F.Add<L, B, V>(words, step, count, x, t.Levels, ref s0, ref s1);
                    End(ends, s0, n, 0, pending, t.Result, scales, offsets);
                    End(ends, s1, n, L.Count, pending, t.Result, scales, offsets);
                }

                words += count * F.Words * step;
                x += count * F.Columns;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static B Begin(nint chunk, uint* pending) => chunk == 0 ? L.Zero : L.Load(pending);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void End(bool ends, B sum, B n, int lane, uint* pending, float* result, float* scales, float* offsets)
    {
        if (!ends)
        {
            L.Store(sum, pending + lane);
            return;
        }

        sum = F.IsBytes ? L.RestoreBytes(sum, n) : sum;
        S.Store(E.Add<S, V, L, B>(S.Load(result + lane), sum, S.Load(scales + lane), S.Load(offsets + lane), n), result + lane);
    }
}
