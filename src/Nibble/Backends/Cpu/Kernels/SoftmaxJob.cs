namespace Nibble.Backends.Cpu.Kernels;

/// <summary>Softmax of rows, in place: the largest element is subtracted first, so that nothing overflows.</summary>
internal unsafe struct SoftmaxJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* X;
    public nint Rows, Columns;

    public readonly int Parts => Kernels.Parts.Count(Rows, Kernels.Parts.RowsPerPart(Columns));

    public readonly void Execute(int part)
    {
        nint perPart = Kernels.Parts.RowsPerPart(Columns);
        nint end = nint.Min(Rows, (part + 1) * perPart);
        for (nint row = part * perPart; row < end; row++)
        {
            float* x = X + (row * Columns);
            float sum = Reduce<S, V>.ExpAndSum(x, Reduce<S, V>.Largest(x, Columns), Columns);
            Reduce<S, V>.Scale(x, 1 / sum, Columns);
        }
    }
}
