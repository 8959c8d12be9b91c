using Nibble.Backends.Cuda.Driver;

namespace Nibble.Backends.Cuda;

/// <summary>Shapes of launches that depend on sizes alone, so that sums keep their order on any card.</summary>
internal static class CudaGrid
{
    private const int Threads = 256;
    private const long MostBlocks = 8192;

    /// <summary>One thread an element, up to a bound; kernels go on in strides.</summary>
    public static LaunchShape Elements(nint count) => new(Math.Clamp((count + Threads - 1) / Threads, 1, MostBlocks), Threads);

    /// <summary>One thread for eight elements.</summary>
    public static LaunchShape Eights(nint count) => Elements((count + 7) / 8);

    /// <summary>One thread a column, a row of blocks for each chunk of rows.</summary>
    public static LaunchShape Columns(nint columns, nint chunks = 1) => new((columns + Threads - 1) / Threads, Threads, checked((int)chunks));

    /// <summary>One block a row: more threads for long rows.</summary>
    public static LaunchShape Rows(nint rows, nint columns) => new(rows, columns <= 128 ? 32 : columns <= 2048 ? 128 : 256);
}
