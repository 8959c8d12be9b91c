using System.Runtime.InteropServices;

namespace Nibble.Tensors;

/// <summary>
/// Large blocks straight from Linux, with 2 MB pages: streaming weights through 4 KB pages spends a tenth of the time on address
/// translation, more inside a virtual machine. The system clears a page when it is first touched, so whoever fills the memory with
/// several threads clears it with as many. Only whole huge pages inside a block are asked for, so memory does not grow.
/// </summary>
internal static unsafe partial class HugePages
{
    /// <summary>Size and alignment of a huge page.</summary>
    public const int Size = 2 << 20;

    private const int ReadWrite = 3;
    private const int PrivateAnonymous = 0x22;
    private const int MadviseHugePage = 14;

    /// <summary>Whether blocks of this size come from here.</summary>
    public static bool Suit(nint bytes) => OperatingSystem.IsLinux() && bytes >= Size;

    /// <summary>Takes zeroed memory, aligned to a huge page; null if the system refuses.</summary>
    public static byte* Take(nint bytes)
    {
        nint length = Whole(bytes);
        byte* start = (byte*)Mmap(null, (nuint)(length + Size), ReadWrite, PrivateAnonymous, -1, 0);
        if ((nint)start == -1)
        {
            return null;
        }

        // What lies before and behind the aligned block goes back at once.
        byte* aligned = (byte*)(((nint)start + Size - 1) & ~(nint)(Size - 1));
        Return(start, (nint)(aligned - start));
        Return(aligned + length, (nint)(start + Size - aligned));
        _ = Madvise(aligned, (nuint)(bytes / Size * Size), MadviseHugePage);
        return aligned;
    }

    /// <summary>Gives a block back.</summary>
    public static void Give(byte* pointer, nint bytes) => Return(pointer, Whole(bytes));

    private static nint Whole(nint bytes) => (bytes + Environment.SystemPageSize - 1) / Environment.SystemPageSize * Environment.SystemPageSize;

    private static void Return(byte* pointer, nint bytes)
    {
        if (bytes > 0)
        {
            _ = Munmap(pointer, (nuint)bytes);
        }
    }

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial void* Mmap(void* address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Munmap(void* address, nuint length);

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Madvise(void* address, nuint length, int advice);
}
