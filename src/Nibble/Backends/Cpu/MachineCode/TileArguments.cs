namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>The fields of the block that emitted code gets a pointer to, each of 8 bytes.</summary>
internal enum TileArgument
{
    Words,
    X,
    XStride,
    Sums,
    SumStride,
    Scales,
    ScaleStride,
    Offsets,
    OffsetStride,
    Groups,
    GroupSteps,
    LastSteps,
    XScales,
    Bias,
    Y,
    YStride,
    Rows,
    XSkip,
    Buffer,
    TileConfig,

    /// <summary>Of BF16 products: what sums start at, bytes between its rows, and between tiles of 16 rows of x.</summary>
    Start,
    StartStride,
    TileStride,

    /// <summary>Of products of one row: scales and offsets of each of four panels.</summary>
    PanelScales,
    PanelOffsets = PanelScales + 4,

    /// <summary>How many fields there are.</summary>
    Count = PanelOffsets + 4,
}

/// <summary>
/// How emitted functions are entered and left. They take one pointer and keep the caller's registers in the block that it points to:
/// the stack is never touched, so there is nothing to unwind, on Linux and on Windows alike.
/// </summary>
internal static class CallFrame
{
    // Registers that the caller expects back on either system, and on Windows the low halves of xmm6 to xmm15 too.
    private static readonly Gpr[] Kept = [Gpr.Rbx, Gpr.Rsi, Gpr.Rdi, Gpr.R12, Gpr.R13, Gpr.R14, Gpr.R15];
    private const int FirstKeptVector = 6, KeptVectors = 10, VectorBytes = 64;

    private const int RegisterBytes = 8 * ((int)TileArgument.Count + 8);

    /// <summary>Bytes of the block.</summary>
    public const int ByteLength = RegisterBytes + (KeptVectors * VectorBytes);

    /// <summary>A field of the block, whose address is in rax.</summary>
    public static Address Field(TileArgument argument) => new(Gpr.Rax, 8 * (int)argument);

    /// <summary>rax = the block; the caller's registers go to it.</summary>
    public static void Enter(Assembler code)
    {
        code.Mov(Gpr.Rax, OperatingSystem.IsWindows() ? Gpr.Rcx : Gpr.Rdi);
        for (int i = 0; i < Kept.Length; i++)
        {
            code.Mov(KeptRegister(i), Kept[i]);
        }

        for (int i = 0; OperatingSystem.IsWindows() && i < KeptVectors; i++)
        {
            code.Vmovups(KeptVector(i), new Zmm(FirstKeptVector + i));
        }
    }

    /// <summary>Gives the registers back and returns.</summary>
    public static void Leave(Assembler code)
    {
        for (int i = 0; OperatingSystem.IsWindows() && i < KeptVectors; i++)
        {
            code.Vmovups(new Zmm(FirstKeptVector + i), KeptVector(i));
        }

        for (int i = 0; i < Kept.Length; i++)
        {
            code.Mov(Kept[i], KeptRegister(i));
        }

        code.Vzeroupper();
        code.Ret();
    }

    private static Address KeptRegister(int index) => new(Gpr.Rax, 8 * ((int)TileArgument.Count + index));

    private static Address KeptVector(int index) => new(Gpr.Rax, RegisterBytes + (VectorBytes * index));
}
