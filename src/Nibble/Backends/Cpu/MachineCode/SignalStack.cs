using System.Runtime.InteropServices;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// The stack on which a thread's hardware faults are handled (a null reference is one). The kernel puts a thread's registers there, and since its first tile
/// instruction these take 11 KB: of .NET 10's 16 KB, one page of them a guard, nothing is left for the handler, and a null reference ends the
/// process. So a thread gets a larger stack before its first tile, for as long as it lives. The runtime then leaves its own 16 KB of addresses
/// reserved when the thread ends.
/// </summary>
internal sealed unsafe partial class SignalStack
{
    private const nuint ByteLength = 64 << 10, GuardBytes = 4096;
    private const int None = 0, Read = 1, Write = 2;

    // Private and anonymous, on Linux.
    private const int Flags = 0x22;

    [ThreadStatic]
    private static SignalStack? _current;

    private readonly nint _memory;

    private SignalStack(nint memory) => _memory = memory;

    // Of a thread that has ended: its statics are gone.
    ~SignalStack() => Unmap(_memory, ByteLength);

    /// <summary>Makes room on the calling thread, once; false if the system gives none.</summary>
    public static bool TryMakeRoom()
    {
        if (_current is null)
        {
            nint memory = Map(0, ByteLength, Read | Write, Flags, -1, 0);
            if (memory == -1)
            {
                return false;
            }

            SignalStack stack = new(memory);
            Registration next = new() { Start = memory, ByteLength = ByteLength };
            if (Protect(memory, GuardBytes, None) != 0 || Exchange(&next, null) != 0)
            {
                return false;
            }

            _current = stack;
        }

        return true;
    }

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial nint Map(nint address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Unmap(nint address, nuint length);

    [LibraryImport("libc", EntryPoint = "mprotect", SetLastError = true)]
    private static partial int Protect(nint address, nuint length, int protection);

    [LibraryImport("libc", EntryPoint = "sigaltstack", SetLastError = true)]
    private static partial int Exchange(Registration* next, Registration* last);

    /// <summary>stack_t of Linux.</summary>
    private struct Registration
    {
        public nint Start;
        public int State;
        public nuint ByteLength;
    }
}
