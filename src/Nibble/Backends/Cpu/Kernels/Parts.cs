namespace Nibble.Backends.Cpu.Kernels;

/// <summary>How row-wise kernels split their work: by sizes of the data alone, so that results do not depend on the threads.</summary>
internal static class Parts
{
    // A part of some microseconds: longer than its hand-out (0.1 µs), short enough to balance.
    private const nint Elements = 8192;

    /// <summary>Elements of one part of an elementwise kernel; a multiple of every vector.</summary>
    public static nint ElementsPerPart => Elements;

    /// <summary>Rows of one part.</summary>
    public static nint RowsPerPart(nint columns) => nint.Max(1, Elements / nint.Max(1, columns));

    /// <summary>Number of parts.</summary>
    public static int Count(nint items, nint perPart) => checked((int)((items + perPart - 1) / perPart));
}
