namespace Nibble.Backends.Cpu;

/// <summary>C += A·B over F32 matrices in memory, whose rows stand any distance apart; see <see cref="CpuVariant.Multiply"/>.</summary>
internal unsafe struct StridedProduct
{
    /// <summary>First elements: A is <c>[Rows, Depth]</c>, B <c>[Depth, Columns]</c>, C <c>[Rows, Columns]</c>. C overlaps neither.</summary>
    public float* A, B, C;

    /// <summary>Elements between rows of A, and between its columns (one of them is 1).</summary>
    public nint ARow, AStep;

    /// <summary>Elements between rows of B and of C.</summary>
    public nint BRow, CRow;

    public nint Rows, Columns, Depth;

    /// <summary>C = A·B instead.</summary>
    public bool Overwrite;

    /// <summary>Only C's upper triangle is asked for; what stands below it afterwards is undefined.</summary>
    public bool UpperOnly;
}
