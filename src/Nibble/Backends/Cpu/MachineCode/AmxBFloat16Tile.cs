namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Emits BF16 products of AMX tiles (Intel SDM, volume 2, TDPBF16PS): rows of A, 32 or up to 16 at a time, times a panel of 32 columns, 32 elements a step. The
/// sums of 32 × 32 stay in four tiles from the first step to the last.
/// </summary>
internal sealed class AmxBFloat16Tile(Assembler code, bool isHigh)
{
    private const int TileBytes = 1024, LineBytes = 128, RowBytes = 64, VectorBytes = 64;

    private const Gpr B = Gpr.Rdx, A = Gpr.R9, LowerA = Gpr.R11, FirstA = Gpr.Rbx, RowStep = Gpr.R10, Line = Gpr.R8, Steps = Gpr.Rcx;
    private const Gpr Start = Gpr.Rsi, StartStride = Gpr.R12, C = Gpr.Rdi, CStride = Gpr.R13, Groups = Gpr.R14, At = Gpr.R15;

    private static readonly Tmm X = new(4), LowerX = new(5), W0 = new(6), W1 = new(7);

    /// <summary>Emits the whole function.</summary>
    public void Emit()
    {
        CallFrame.Enter(code);
        (Gpr, TileArgument)[] loads =
        [
            (FirstA, TileArgument.X), (Start, TileArgument.Start), (StartStride, TileArgument.StartStride), (C, TileArgument.Y),
            (CStride, TileArgument.YStride), (Groups, TileArgument.Groups), (At, TileArgument.TileConfig),
        ];
        foreach ((Gpr register, TileArgument argument) in loads)
        {
            code.Mov(register, CallFrame.Field(argument));
        }

        code.Ldtilecfg(new Address(At));
        code.Mov(Line, LineBytes);
        code.Mov(RowStep, RowBytes);
        Label group = code.Here();
        code.Mov(B, CallFrame.Field(TileArgument.Words));
        code.Mov(Steps, CallFrame.Field(TileArgument.GroupSteps));
        code.Mov(A, FirstA);
        code.Mov(At, CallFrame.Field(TileArgument.TileStride));
        code.Lea(LowerA, new Address(A, 0, At));
        code.Lea(FirstA, new Address(A, 0, At, 2));
        ForSums(Start, StartStride, (sum, address) => code.Tileloadd(sum, address));
        EmitSteps();
        ForSums(C, CStride, (sum, address) => code.Tilestored(address, sum));
        code.Sub(Groups, 1);
        code.Jcc(Condition.NotZero, group);
        code.Tilerelease();
        CallFrame.Leave(code);
    }

    private void EmitSteps()
    {
        Label loop = code.Here();
        code.Tileloadd(X, new Address(A, 0, RowStep));
        code.Tileloadd(W0, new Address(B, 0, Line));
        code.Tdpbf16ps(new Tmm(0), X, W0);
        code.Tileloadd(W1, new Address(B, VectorBytes, Line));
        code.Tdpbf16ps(new Tmm(1), X, W1);
        if (isHigh)
        {
            code.Tileloadd(LowerX, new Address(LowerA, 0, RowStep));
            code.Tdpbf16ps(new Tmm(2), LowerX, W0);
            code.Tdpbf16ps(new Tmm(3), LowerX, W1);
            code.Add(LowerA, TileBytes);
        }

        code.Add(A, TileBytes);
        code.Add(B, 2 * TileBytes);
        code.Sub(Steps, 1);
        code.Jcc(Condition.NotZero, loop);
    }

    /// <summary>All tiles of sums, from the row where <paramref name="rows"/> stands, which goes on by 32 rows.</summary>
    private void ForSums(Gpr rows, Gpr stride, Action<Tmm, Address> body)
    {
        body(new Tmm(0), new Address(rows, 0, stride));
        body(new Tmm(1), new Address(rows, VectorBytes, stride));
        if (!isHigh)
        {
            return;
        }

        Skip16(rows, stride);
        body(new Tmm(2), new Address(rows, 0, stride));
        body(new Tmm(3), new Address(rows, VectorBytes, stride));
        Skip16(rows, stride);
    }

    private void Skip16(Gpr rows, Gpr stride)
    {
        code.Lea(rows, new Address(rows, 0, stride, 8));
        code.Lea(rows, new Address(rows, 0, stride, 8));
    }
}
