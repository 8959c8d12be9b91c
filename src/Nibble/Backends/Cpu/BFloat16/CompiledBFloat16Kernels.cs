using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.BFloat16;

/// <summary>BF16 products with the multiply-adds of F32, for any vector: 4 rows × 1 vector, even and odd places in 8 sums.</summary>
internal sealed unsafe class CompiledBFloat16Kernels<S, V> : BFloat16Kernels
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int Rows = 4, Step = BFloat16Layout.Step;

    public override string Name => "f32";

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(in BFloat16Tile tile)
    {
        float* rows = stackalloc float[Rows * Step];
        for (nint row = 0; row < tile.Rows; row += Rows)
        {
            int valid = (int)nint.Min(Rows, tile.Rows - row);
            ushort* a = tile.A + (row / BFloat16Layout.TileRows * tile.TileStride) + (row % BFloat16Layout.TileRows * Step);
            float* c = tile.C + (row * tile.CStride);
            CopyStart(tile, row, valid);
            for (nint step = 0; step < tile.Steps; step++)
            {
                Widen(a + (step * BFloat16Layout.StepElements), valid, rows);
                uint* b = tile.B + (step * BFloat16Layout.StepLines * 2 * S.Count);
                RunStep(rows, b, c, tile.CStride, valid);
                RunStep(rows, b + S.Count, c + S.Count, tile.CStride, valid);
            }
        }
    }

    private static void CopyStart(in BFloat16Tile tile, nint row, int rows)
    {
        if (tile.Start == tile.C)
        {
            return;
        }

        for (int i = 0; i < rows; i++)
        {
            float* source = tile.Start + ((row + i) * tile.StartStride), target = tile.C + ((row + i) * tile.CStride);
            S.Store(S.Load(source), target);
            S.Store(S.Load(source + S.Count), target + S.Count);
        }
    }

    // Rows that are not there are 0.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Widen(ushort* a, int valid, float* rows)
    {
        int count = valid * Step;
        for (int i = 0; i < count; i += 16)
        {
            Vector256<ushort> half = Vector256.Load(a + i);
            Vector256.ShiftLeft(Vector256.WidenLower(half), 16).AsSingle().Store(rows + i);
            Vector256.ShiftLeft(Vector256.WidenUpper(half), 16).AsSingle().Store(rows + i + 8);
        }

        if (valid < Rows)
        {
            new Span<float>(rows + count, (Rows * Step) - count).Clear();
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void RunStep(float* a, uint* b, float* c, nint stride, int valid)
    {
        V e0 = S.Zero, e1 = S.Zero, e2 = S.Zero, e3 = S.Zero, o0 = S.Zero, o1 = S.Zero, o2 = S.Zero, o3 = S.Zero;
        for (int k = 0; k < Step; k += 2, a += 2, b += 2 * S.Count)
        {
            V even = S.BFloat16First((ushort*)b), odd = S.BFloat16Second((ushort*)b);
            e0 = S.MultiplyAdd(S.Set(a[0]), even, e0);
            e1 = S.MultiplyAdd(S.Set(a[Step]), even, e1);
            e2 = S.MultiplyAdd(S.Set(a[2 * Step]), even, e2);
            e3 = S.MultiplyAdd(S.Set(a[3 * Step]), even, e3);
            o0 = S.MultiplyAdd(S.Set(a[1]), odd, o0);
            o1 = S.MultiplyAdd(S.Set(a[Step + 1]), odd, o1);
            o2 = S.MultiplyAdd(S.Set(a[(2 * Step) + 1]), odd, o2);
            o3 = S.MultiplyAdd(S.Set(a[(3 * Step) + 1]), odd, o3);
        }

        Add(c, S.Add(e0, o0));
        if (valid > 1)
        {
            Add(c + stride, S.Add(e1, o1));
        }

        if (valid > 2)
        {
            Add(c + (2 * stride), S.Add(e2, o2));
        }

        if (valid > 3)
        {
            Add(c + (3 * stride), S.Add(e3, o3));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add(float* c, V sum) => S.Store(S.Add(S.Load(c), sum), c);
}
