using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>x = x·factor + shift with a factor and a shift for each column; a part is a run of rows.</summary>
internal unsafe struct ScaleColumnsJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* X, Factor, Shift;
    public nint Rows, Columns;

    public readonly int Parts => Kernels.Parts.Count(Rows, Kernels.Parts.RowsPerPart(Columns));

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Execute(int part)
    {
        nint perPart = Kernels.Parts.RowsPerPart(Columns);
        nint end = nint.Min(Rows, (part + 1) * perPart);
        for (nint row = part * perPart; row < end; row++)
        {
            Run(X + (row * Columns));
        }
    }

    private readonly void Run(float* x)
    {
        nint i = 0;
        for (; i <= Columns - S.Count; i += S.Count)
        {
            V shift = Shift == null ? S.Zero : S.Load(Shift + i);
            S.Store(S.MultiplyAdd(S.Load(x + i), S.Load(Factor + i), shift), x + i);
        }

        for (; i < Columns; i++)
        {
            x[i] = MathF.FusedMultiplyAdd(x[i], Factor[i], Shift == null ? 0 : Shift[i]);
        }
    }
}
