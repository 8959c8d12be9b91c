using Nibble.Backends.Cpu.BFloat16;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Emits BF16 products of 512-bit vectors (vdpbf16ps): up to 8 rows of A times a panel of 32 columns. Each sum is one chain of fused multiply-adds,
/// of each pair of elements the second first.
/// </summary>
internal sealed class VdpBFloat16Tile(Assembler code, int rows)
{
    /// <summary>Rows of the largest tile: 16 sums hide the latency of their chains.</summary>
    public const int MostRows = 8;

    private const int LineBytes = 128, RowBytes = 64, VectorBytes = 64;

    private const Gpr B = Gpr.Rdx, A = Gpr.R9, Steps = Gpr.Rcx, Start = Gpr.Rsi, StartStride = Gpr.R12, C = Gpr.Rdi, CStride = Gpr.R13;

    /// <summary>Emits the whole function.</summary>
    public void Emit()
    {
        CallFrame.Enter(code);
        (Gpr, TileArgument)[] loads =
        [
            (B, TileArgument.Words), (A, TileArgument.X), (Steps, TileArgument.GroupSteps), (Start, TileArgument.Start),
            (StartStride, TileArgument.StartStride), (C, TileArgument.Y), (CStride, TileArgument.YStride),
        ];
        foreach ((Gpr register, TileArgument argument) in loads)
        {
            code.Mov(register, CallFrame.Field(argument));
        }

        for (int row = 0; row < rows; row++)
        {
            code.Vmovups(Sum(row, 0), new Address(Start));
            code.Vmovups(Sum(row, 1), new Address(Start, VectorBytes));
            code.Add(Start, StartStride);
        }

        Label loop = code.Here();
        for (int line = 0; line < BFloat16Layout.StepLines; line++)
        {
            EmitLine(line);
        }

        code.Add(A, BFloat16Layout.StepElements * sizeof(ushort));
        code.Add(B, BFloat16Layout.StepLines * LineBytes);
        code.Sub(Steps, 1);
        code.Jcc(Condition.NotZero, loop);
        for (int row = 0; row < rows; row++)
        {
            code.Vmovups(new Address(C), Sum(row, 0));
            code.Vmovups(new Address(C, VectorBytes), Sum(row, 1));
            code.Add(C, CStride);
        }

        CallFrame.Leave(code);
    }

    // Two lines at a time have their own registers, so that the next is loaded while this one multiplies.
    private static Zmm W(int line, int i) => new(28 + (line % 2 * 2) + i);

    private static Zmm Sum(int row, int i) => new((2 * row) + i);

    private void EmitLine(int line)
    {
        code.Vmovups(W(line, 0), new Address(B, line * LineBytes));
        code.Vmovups(W(line, 1), new Address(B, (line * LineBytes) + VectorBytes));
        for (int row = 0; row < rows; row++)
        {
            Address x = new(A, (row * RowBytes) + (line * sizeof(uint)));
            code.Vdpbf16psBroadcast(Sum(row, 0), W(line, 0), x);
            code.Vdpbf16psBroadcast(Sum(row, 1), W(line, 1), x);
        }
    }
}
