using System.Runtime.InteropServices;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Code in memory of its own, which is written first and made executable then, never both at a time. Systems may forbid it (SELinux'
/// execmem, a hardened kernel, Windows' arbitrary code guard): then there is none, and a reason.
/// </summary>
internal sealed unsafe partial class ExecutableMemory : SafeHandle
{
    private readonly nuint _bytes;

    private ExecutableMemory(nint address, nuint bytes)
        : base(0, ownsHandle: true)
    {
        SetHandle(address);
        _bytes = bytes;
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>Where the code starts, at the start of a page.</summary>
    public nint Address => handle;

    /// <summary>The code in executable memory, or null and why not.</summary>
    public static ExecutableMemory? TryCreate(ReadOnlySpan<byte> code, out string? why)
    {
        nuint bytes = (nuint)code.Length;
        nint address = OperatingSystem.IsWindows() ? Windows.Allocate(bytes) : Unix.Allocate(bytes);
        if (address == 0)
        {
            why = "no memory for machine code: " + Marshal.GetLastPInvokeErrorMessage();
            return null;
        }

        ExecutableMemory memory = new(address, bytes);
        code.CopyTo(new Span<byte>((void*)address, code.Length));
        if (OperatingSystem.IsWindows() ? Windows.MakeExecutable(address, bytes) : Unix.MakeExecutable(address, bytes))
        {
            why = null;
            return memory;
        }

        why = "the system does not let memory become executable: " + Marshal.GetLastPInvokeErrorMessage();
        memory.Dispose();
        return null;
    }

    protected override bool ReleaseHandle() => OperatingSystem.IsWindows() ? Windows.Free(handle) : Unix.Free(handle, _bytes);

    private static partial class Unix
    {
        private const int Read = 1, Write = 2, Execute = 4;

        // Private and anonymous, on Linux.
        private const int Flags = 0x22;

        public static nint Allocate(nuint bytes)
        {
            nint address = Map(0, bytes, Read | Write, Flags, -1, 0);
            return address == -1 ? 0 : address;
        }

        public static bool MakeExecutable(nint address, nuint bytes) => Protect(address, bytes, Read | Execute) == 0;

        public static bool Free(nint address, nuint bytes) => Unmap(address, bytes) == 0;

        [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
        private static partial nint Map(nint address, nuint length, int protection, int flags, int file, nint offset);

        [LibraryImport("libc", EntryPoint = "mprotect", SetLastError = true)]
        private static partial int Protect(nint address, nuint length, int protection);

        [LibraryImport("libc", EntryPoint = "munmap")]
        private static partial int Unmap(nint address, nuint length);
    }

    private static partial class Windows
    {
        private const uint CommitAndReserve = 0x3000, Release = 0x8000, ReadWrite = 4, ExecuteRead = 0x20;

        public static nint Allocate(nuint bytes) => VirtualAlloc(0, bytes, CommitAndReserve, ReadWrite);

        public static bool MakeExecutable(nint address, nuint bytes) =>
            VirtualProtect(address, bytes, ExecuteRead, out _) != 0 && FlushInstructionCache(GetCurrentProcess(), address, bytes) != 0;

        public static bool Free(nint address) => VirtualFree(address, 0, Release) != 0;

        [LibraryImport("kernel32", SetLastError = true)]
        private static partial nint VirtualAlloc(nint address, nuint size, uint type, uint protection);

        [LibraryImport("kernel32", SetLastError = true)]
        private static partial int VirtualProtect(nint address, nuint size, uint protection, out uint old);

        [LibraryImport("kernel32")]
        private static partial int VirtualFree(nint address, nuint size, uint type);

        [LibraryImport("kernel32", SetLastError = true)]
        private static partial int FlushInstructionCache(nint process, nint address, nuint size);

        [LibraryImport("kernel32")]
        private static partial nint GetCurrentProcess();
    }
}
