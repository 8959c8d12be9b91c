using System.Runtime.InteropServices;

namespace Nibble.Tensors;

/// <summary>
/// Asks Linux for 2 MB pages under large allocations: streaming weights through 4 KB pages spends a tenth of the time on address
/// translation, more inside a virtual machine. Only whole huge pages inside the allocation are asked for, so memory does not grow.
/// </summary>
internal static unsafe partial class HugePages
{
    /// <summary>Size and alignment of a huge page.</summary>
    public const int Size = 2 << 20;

    private const nint Smallest = 8 << 20;
    private const int MadviseHugePage = 14;

    /// <summary>Alignment that an allocation of <paramref name="bytes"/> should have.</summary>
    public static int AlignmentFor(nint bytes) => OperatingSystem.IsLinux() && bytes >= Smallest ? Size : NativeStorage.Alignment;

    /// <summary>Asks for huge pages if the allocation is large. A refusal changes nothing but speed.</summary>
    public static void Advise(byte* pointer, nint bytes)
    {
        if (OperatingSystem.IsLinux() && bytes >= Smallest)
        {
            _ = Madvise(pointer, (nuint)(bytes / Size * Size), MadviseHugePage);
        }
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Madvise(void* address, nuint length, int advice);
}
