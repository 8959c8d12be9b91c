using Nibble.Backends.Cpu.Kernels;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>dx += the slots of a cache's gradient that x was copied to.</summary>
internal unsafe struct CacheGradientJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* Dx, DCache;
    public nint Start, Length, Heads, Capacity, Dim;

    /// <summary>Writes dx instead of adding to it.</summary>
    public bool Overwrite;

    public readonly void Execute(int part)
    {
        (nint batch, nint token) = (part / Length, part % Length);
        for (nint head = 0; head < Heads; head++)
        {
            float* slot = DCache + (((((batch * Heads) + head) * Capacity) + Start + token) * Dim);
            float* target = Dx + (((part * Heads) + head) * Dim);
            if (Overwrite)
            {
                new Span<float>(slot, (int)Dim).CopyTo(new Span<float>(target, (int)Dim));
            }
            else
            {
                RowMath<S, V>.Add(slot, target, Dim);
            }
        }
    }
}

/// <summary>Columns First … of dx += dy.</summary>
internal unsafe struct ColumnsGradientJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* Dx, Dy;
    public nint Rows, First, Count, Stride;

    /// <summary>Writes the columns, and zeros into all others.</summary>
    public bool Overwrite;

    public readonly int Parts => Kernels.Parts.Count(Rows, Kernels.Parts.RowsPerPart(Count));

    public readonly void Execute(int part)
    {
        nint perPart = Kernels.Parts.RowsPerPart(Count);
        nint end = nint.Min(Rows, (part + 1) * perPart);
        for (nint row = part * perPart; row < end; row++)
        {
            float* dy = Dy + (row * Count), dx = Dx + (row * Stride);
            if (!Overwrite)
            {
                RowMath<S, V>.Add(dy, dx + First, Count);
                continue;
            }

            new Span<float>(dx, (int)First).Clear();
            new Span<float>(dy, (int)Count).CopyTo(new Span<float>(dx + First, (int)Count));
            new Span<float>(dx + First + Count, (int)(Stride - First - Count)).Clear();
        }
    }
}

/// <summary>
/// dTable[ids[r]] += dy[r] over a table in panels <c>[panel][k][lane]</c>. The same id may come often, so the parts split the
/// columns and each goes through all rows in order.
/// </summary>
internal unsafe struct GatherGradientJob : ICpuJob
{
    private const int ColumnsPerPart = 32;

    public float* Dy, DTable;
    public int* Ids;
    public nint Rows, Columns;
    public int Width;

    public readonly int Parts => Kernels.Parts.Count(Columns, ColumnsPerPart);

    public readonly void Execute(int part)
    {
        nint end = nint.Min(Columns, (part + 1) * ColumnsPerPart);
        for (nint row = 0; row < Rows; row++)
        {
            int id = Ids[row];
            if (id < 0)
            {
                continue;
            }

            float* target = DTable + (id / Width * Columns * Width) + (id % Width);
            for (nint k = part * ColumnsPerPart; k < end; k++)
            {
                target[k * Width] += Dy[(row * Columns) + k];
            }
        }
    }
}

/// <summary>x = x·factor.</summary>
internal unsafe struct ScaleJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* X;
    public nint Count;
    public float Factor;

    public readonly int Parts => Kernels.Parts.Count(Count, Kernels.Parts.ElementsPerPart);

    public readonly void Execute(int part)
    {
        nint first = part * Kernels.Parts.ElementsPerPart;
        Reduce<S, V>.Scale(X + first, Factor, nint.Min(Kernels.Parts.ElementsPerPart, Count - first));
    }
}

/// <summary>Copies or fills runs of elements.</summary>
internal unsafe struct CopyJob : ICpuJob
{
    public float* Source, Target;
    public float Value;
    public nint Count;

    public readonly int Parts => Kernels.Parts.Count(Count, Kernels.Parts.ElementsPerPart);

    public readonly void Execute(int part)
    {
        nint first = part * Kernels.Parts.ElementsPerPart;
        Span<float> target = new(Target + first, (int)nint.Min(Kernels.Parts.ElementsPerPart, Count - first));
        if (Source == null)
        {
            target.Fill(Value);
        }
        else
        {
            new Span<float>(Source + first, target.Length).CopyTo(target);
        }
    }
}

/// <summary>Dropout by a counter: the bits for element i are a hash (SplitMix64's finalizer) of key and i.</summary>
internal readonly unsafe struct DropoutJob(float* x, nint count, ulong key, float probability) : ICpuJob
{
    private readonly float* _x = x;
    private readonly ulong _threshold = (ulong)(probability * (double)(1UL << 32));
    private readonly float _factor = 1 / (1 - probability);

    public int Parts => Kernels.Parts.Count(count, Kernels.Parts.ElementsPerPart);

    public void Execute(int part)
    {
        nint first = part * Kernels.Parts.ElementsPerPart;
        nint end = nint.Min(count, first + Kernels.Parts.ElementsPerPart);
        for (nint i = first; i < end; i++)
        {
            _x[i] = (CounterRandom.Bits(key, (ulong)i) >> 32) < _threshold ? 0 : _x[i] * _factor;
        }
    }
}

/// <summary>Copies between a matrix in row order and its panels <c>[panel][k][lane]</c>; a part is a row.</summary>
internal unsafe struct PanelOrderJob : ICpuJob
{
    public float* Panels, Rows;
    public nint Columns;
    public int Width;
    public bool Back;

    public readonly void Execute(int part)
    {
        float* lane = Panels + (part / Width * Columns * Width) + (part % Width);
        float* row = Rows + (part * Columns);
        for (nint k = 0; k < Columns; k++)
        {
            if (Back)
            {
                lane[k * Width] = row[k];
            }
            else
            {
                row[k] = lane[k * Width];
            }
        }
    }
}
