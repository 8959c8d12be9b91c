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

    public float* Scales, Offsets;
    public int ScaleStride, OffsetStride;
    public nint Groups, GroupChunks, LastChunks;
    public byte* Levels;

    /// <summary>One float a row of the panel: Σ over groups, added to in order.</summary>
    public float* Result;
}

/// <summary>
/// result += Σ over groups of scale·(Σ code·x − offset·Σ x): bit for bit what <see cref="ByteTiles{S, V, L, B, E}"/> computes for one row.
/// The strips of a panel take turns every few chunks, so that memory is read in one stream, each line once.
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
        nint step = t.Step, chunks = t.GroupChunks;
        float* scales = t.Scales, offsets = t.Offsets;
        int width = 2 * L.Count, lanes = t.Strips * width;
        for (nint g = 0; g < t.Groups; g++, scales += t.ScaleStride, offsets += t.OffsetStride)
        {
            chunks = g == t.Groups - 1 ? t.LastChunks : chunks;
            B n = L.Broadcast(t.Sums[g]);
            for (nint c = 0; c < chunks; c += F.Chunks)
            {
                nint count = nint.Min(F.Chunks, chunks - c);
                for (int lane = 0; lane < lanes; lane += width)
                {
                    B s0 = c == 0 ? L.Zero : L.Load(pending + lane), s1 = c == 0 ? L.Zero : L.Load(pending + lane + L.Count);
                    F.Add<L, B, V>(words + lane, step, count, x, t.Levels, ref s0, ref s1);
                    if (c + count < chunks)
                    {
                        L.Store(s0, pending + lane);
                        L.Store(s1, pending + lane + L.Count);
                        continue;
                    }

                    if (F.IsBytes)
                    {
                        (s0, s1) = (L.RestoreBytes(s0, n), L.RestoreBytes(s1, n));
                    }

                    float* result = t.Result + lane, scale = scales + lane, offset = offsets + lane;
                    S.Store(E.Add<S, V, L, B>(S.Load(result), s0, S.Load(scale), S.Load(offset), n), result);
                    S.Store(E.Add<S, V, L, B>(S.Load(result + L.Count), s1, S.Load(scale + L.Count), S.Load(offset + L.Count), n), result + L.Count);
                }

                words += count * F.Words * step;
                x += count * F.Columns;
            }
        }
    }
}
