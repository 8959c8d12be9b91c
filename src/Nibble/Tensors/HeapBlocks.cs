using System.Runtime.InteropServices;

namespace Nibble.Tensors;

/// <summary>
/// Tells glibc to take large blocks from the system and to give them back when they are freed. By itself it begins, once one such
/// block was freed, to keep blocks of up to 32 MB in its heap; a training's first pass left a fifth of its memory there.
/// </summary>
internal static partial class HeapBlocks
{
    private const int MmapThreshold = -3;
    private const int Large = 1 << 20;

    private static int _done;

    /// <summary>Does so, once. Other C libraries do it anyway.</summary>
    public static void ReturnLargeOnes()
    {
        if (!OperatingSystem.IsLinux() || Volatile.Read(ref _done) != 0 || Interlocked.Exchange(ref _done, 1) != 0)
        {
            return;
        }

        try
        {
            _ = Mallopt(MmapThreshold, Large);
        }
        catch (Exception error) when (error is EntryPointNotFoundException or DllNotFoundException)
        {
            // Musl has no such setting and keeps no large blocks.
        }
    }

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int Mallopt(int parameter, int value);
}
