namespace Nibble.Backends.Cpu.Kernels;

/// <summary>Some columns of a matrix as a matrix of their own: a copy of a run per row.</summary>
internal unsafe struct CopyColumnsJob : ICpuJob
{
    public float* X, Y;
    public nint Rows, Columns, Stride;

    public readonly int Parts => Kernels.Parts.Count(Rows, Kernels.Parts.RowsPerPart(Columns));

    public readonly void Execute(int part)
    {
        nint perPart = Kernels.Parts.RowsPerPart(Columns);
        nint end = nint.Min(Rows, (part + 1) * perPart);
        long bytes = Columns * sizeof(float);
        for (nint row = part * perPart; row < end; row++)
        {
            Buffer.MemoryCopy(X + (row * Stride), Y + (row * Columns), bytes, bytes);
        }
    }
}
