using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>What machine code of our own can do here, and where it can't run, why.</summary>
/// <param name="WhyNoVnni">Why there are no 512-bit int8 products (AVX512-VNNI), or null if there are.</param>
/// <param name="WhyNoTiles">Why there are no int8 products of tiles (AMX), or null if there are.</param>
/// <param name="WhyNoBFloat16">Why 512-bit BF16 products (AVX512-BF16) are not used, or null if they are.</param>
/// <param name="WhyNoBFloat16Tiles">Why there are no BF16 products of tiles, or null if there are.</param>
internal sealed unsafe partial record MachineCodeSupport(string? WhyNoVnni, string? WhyNoTiles, string? WhyNoBFloat16, string? WhyNoBFloat16Tiles)
{
    // State components of the extended control register 0 that AMX needs: TILECFG and TILEDATA.
    private const int TileState = 3 << 17;
    private const int TileData = 18;

    // x86's arch_prctl: asks for a component that is off until a process asks (Linux 5.16, Documentation/arch/x86/xstate.rst).
    private const int ArchPrctl = 158;
    private const int RequestPermission = 0x1023;

    /// <summary>True if 512-bit BF16 products can run, faster or not: for tests.</summary>
    public static bool HasVdpBFloat16 => Current.WhyNoVnni is null && IsSet(X86Base.CpuId(7, 1).Eax, 5);

    private static readonly Lazy<MachineCodeSupport> Found = new(Detect);

    /// <summary>Looked at once per process, when first asked for.</summary>
    public static MachineCodeSupport Current => Found.Value;

    private static MachineCodeSupport Detect()
    {
        string? why = WhyNoCode();
        if (why is not null)
        {
            return new(why, why, why, why);
        }

        (_, _, int ecx, int edx) = X86Base.CpuId(7, 0);
        string? noVnni = IsSet(ecx, 11) ? null : "the processor has no AVX512-VNNI";
        string? noTiles = !(IsSet(edx, 24) && IsSet(edx, 25)) ? "the processor has no AMX with int8" : noVnni ?? WhyNoPermission();
        string? noBFloat16 = !IsSet(X86Base.CpuId(7, 1).Eax, 5) ? "the processor has no AVX512-BF16"
            : IsAmd() ? null : "this processor's vdpbf16ps is no faster than multiply-adds in F32";
        return new(noVnni, noTiles, noBFloat16, IsSet(edx, 22) ? noTiles : "the processor has no AMX with BF16");
    }

    // Where it was measured (Sapphire Rapids), vdpbf16ps takes as long as four multiply-adds and does the work of two; AMD's takes as long as one.
    private static bool IsAmd() => X86Base.CpuId(0, 0).Ebx == 0x68747541;

    private static string? WhyNoCode()
    {
        if (!(OperatingSystem.IsLinux() || OperatingSystem.IsWindows()) || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return "machine code is emitted for x86-64 on Linux and Windows only";
        }

        // .NET looks at the control register too, so the system saves 512-bit registers where this is true.
        if (!Avx512BW.IsSupported || !Vector512.IsHardwareAccelerated || X86Base.CpuId(0, 0).Eax < 7)
        {
            return "the processor has no AVX-512, or it is turned off";
        }

        using ExecutableMemory? probe = ExecutableMemory.TryCreate(ControlRegisterCode(), out string? why);
        return why;
    }

    /// <summary>Asks the system to save tiles, and says why it does not.</summary>
    private static string? WhyNoPermission()
    {
        if (!OperatingSystem.IsLinux())
        {
            return "AMX is used on Linux only";
        }

        using ExecutableMemory? code = ExecutableMemory.TryCreate(ControlRegisterCode(), out string? why);
        if (code is null)
        {
            return why;
        }

        int state = ((delegate* unmanaged<int>)code.Address)();
        if ((state & TileState) != TileState)
        {
            return "the system does not save AMX tiles";
        }

        // The kernel refuses if a thread's stack for signals is too small for the larger frames: then tiles would not be safe.
        return SystemCall(ArchPrctl, RequestPermission, TileData) == 0 && SignalStack.TryMakeRoom() ? null
            : "the system does not permit AMX tiles: " + Marshal.GetLastPInvokeErrorMessage();
    }

    private static byte[] ControlRegisterCode()
    {
        Assembler code = new();
        code.Mov(Gpr.Rcx, 0);
        code.Xgetbv();
        code.Ret();
        return code.ToCode();
    }

    private static bool IsSet(int register, int bit) => (register >> bit & 1) != 0;

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint SystemCall(nint number, nint code, nint argument);
}
