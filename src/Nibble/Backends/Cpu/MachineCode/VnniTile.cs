using Nibble.Backends.Cpu.Packings;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>How <see cref="TileArgument.Offsets"/> are given and enter the sums.</summary>
internal enum MachineOffsets
{
    /// <summary>As <see cref="ByteOffsets.Whole"/>; 16-bit numbers −offset in 32-bit lanes, for sums of x that fit 16 bits.</summary>
    WholeShort,

    /// <summary>The same, 32-bit numbers.</summary>
    Whole,

    /// <summary>As <see cref="ByteOffsets.Real"/>, floats.</summary>
    Real,

    /// <summary>As <see cref="ByteOffsets.Bias"/>, floats.</summary>
    Bias,

    /// <summary>Codes are signed, offsets already taken off them.</summary>
    None,
}

/// <summary>
/// Emits the tile of <see cref="ByteTiles{S, V, L, B, E}"/> with 512 bits: up to 6 rows of x times a panel of 32 rows of decoded codes. 12
/// integer sums and 12 float ones fill 24 registers; per 4 columns 2 loads of codes and 6 broadcasts feed 12 products. Integers are
/// exact and floats are combined by the same operations in the same order, so the bits are those of the C# tiles.
/// </summary>
internal sealed class VnniTile(Assembler code, int rows, MachineOffsets offsets, bool isWords)
{
    /// <summary>Rows of x of the largest tile.</summary>
    public const int MostRows = 6;

    // 4 columns of 32 rows of the weight; 4 activations.
    private const int StepBytes = 128, VectorBytes = 64, XBytes = 4;
    private const int Unroll = 4;

    private const Gpr Words = Gpr.Rdx, X = Gpr.R9, Stride = Gpr.R10, Stride3 = Gpr.R11, Stride5 = Gpr.Rcx, Steps = Gpr.R8;
    private const Gpr Scales = Gpr.Rbx, Offsets = Gpr.Rsi, Sums = Gpr.Rdi, SumStride = Gpr.R12, Groups = Gpr.R13, Row = Gpr.R14;

    private static readonly Zmm B = new(26), T = new(31);

    /// <summary>Emits the whole function.</summary>
    public void Emit()
    {
        CallFrame.Enter(code);
        LoadArguments();
        ForEach((row, i) => Zero(F(row, i)));
        Label group = code.Here(), count = code.NewLabel();
        code.Mov(Steps, CallFrame.Field(TileArgument.GroupSteps));
        code.Sub(Groups, 1);
        code.Jcc(Condition.NotZero, count);
        code.Mov(Steps, CallFrame.Field(TileArgument.LastSteps));
        code.Bind(count);
        ForEach((row, i) => Zero(S(row, i)));
        EmitSteps();
        EmitGroupEnd();
        code.Cmp(Groups, 0);
        code.Jcc(Condition.NotZero, group);
        EmitResult();
        CallFrame.Leave(code);
    }

    private static Zmm S(int row, int i) => new((2 * row) + i);

    private static Zmm F(int row, int i) => new(12 + (2 * row) + i);

    private static Zmm W(int i) => new(24 + i);

    private static Zmm Scale(int i) => new(27 + i);

    private static Zmm Offset(int i) => new(29 + i);

    private static Address XAddress(int row, int displacement) => row switch
    {
        0 => new(X, displacement),
        3 => new(X, displacement, Stride3),
        5 => new(X, displacement, Stride5),
        _ => new(X, displacement, Stride, row),
    };

    private void ForEach(Action<int, int> body)
    {
        for (int row = 0; row < rows; row++)
        {
            body(row, 0);
            body(row, 1);
        }
    }

    private void Zero(Zmm register) => code.Vpxord(register, register, register);

    private void LoadArguments()
    {
        (Gpr, TileArgument)[] loads =
        [
            (Words, TileArgument.Words), (X, TileArgument.X), (Stride, TileArgument.XStride), (Scales, TileArgument.Scales),
            (Offsets, TileArgument.Offsets), (Sums, TileArgument.Sums), (SumStride, TileArgument.SumStride), (Groups, TileArgument.Groups),
        ];
        foreach ((Gpr register, TileArgument argument) in loads)
        {
            code.Mov(register, CallFrame.Field(argument));
        }

        code.Lea(Stride3, new Address(Stride, 0, Stride, 2));
        code.Lea(Stride5, new Address(Stride, 0, Stride, 4));
    }

    /// <summary>All steps of a group, some at a time.</summary>
    private void EmitSteps()
    {
        Label single = code.NewLabel(), end = code.NewLabel();
        code.Sub(Steps, Unroll);
        code.Jcc(Condition.Less, single);
        Label loop = code.Here();
        for (int step = 0; step < Unroll; step++)
        {
            EmitStep(step);
        }

        code.Add(Words, Unroll * StepBytes);
        code.Add(X, Unroll * XBytes);
        code.Sub(Steps, Unroll);
        code.Jcc(Condition.NotLess, loop);
        code.Bind(single);
        code.Add(Steps, Unroll);
        code.Jcc(Condition.Zero, end);
        Label rest = code.Here();
        EmitStep(0);
        code.Add(Words, StepBytes);
        code.Add(X, XBytes);
        code.Sub(Steps, 1);
        code.Jcc(Condition.NotZero, rest);
        code.Bind(end);
    }

    private void EmitStep(int step)
    {
        code.Vmovups(W(0), new Address(Words, step * StepBytes));
        code.Vmovups(W(1), new Address(Words, (step * StepBytes) + VectorBytes));
        for (int row = 0; row < rows; row++)
        {
            code.Vpbroadcastd(B, XAddress(row, step * XBytes));
            Product(S(row, 0), W(0));
            Product(S(row, 1), W(1));
        }
    }

    private void Product(Zmm sum, Zmm codes)
    {
        if (isWords)
        {
            code.Vpdpwssd(sum, codes, B);
        }
        else
        {
            code.Vpdpbusd(sum, codes, B);
        }
    }

    /// <summary>Adds the sums of a group, with scales and offsets, to the floats.</summary>
    private void EmitGroupEnd()
    {
        for (int i = 0; i < 2; i++)
        {
            code.Vmovups(Scale(i), new Address(Scales, i * VectorBytes));
            code.Vmovups(Offset(i), new Address(Offsets, i * VectorBytes));
        }

        code.Mov(Row, Sums);
        for (int row = 0; row < rows; row++)
        {
            EmitRowEnd(row);
            code.Add(Row, SumStride);
        }

        code.Add(Sums, sizeof(int));
        code.Add(Scales, CallFrame.Field(TileArgument.ScaleStride));
        code.Add(Offsets, CallFrame.Field(TileArgument.OffsetStride));
    }

    private void EmitRowEnd(int row)
    {
        Address n = new(Row);
        if (offsets is MachineOffsets.Real or MachineOffsets.Bias)
        {
            code.Vcvtdq2psBroadcast(B, n);
        }

        for (int i = 0; i < 2; i++)
        {
            Zmm sum = S(row, i), result = F(row, i);
            if (offsets == MachineOffsets.WholeShort)
            {
                code.VpdpwssdBroadcast(sum, Offset(i), n);
            }
            else if (offsets == MachineOffsets.Whole)
            {
                code.VpmulldBroadcast(T, Offset(i), n);
                code.Vpsubd(sum, sum, T);
            }

            code.Vcvtdq2ps(sum, sum);
            if (offsets == MachineOffsets.Real)
            {
                code.Vmulps(T, Offset(i), B);
                code.Vsubps(sum, sum, T);
            }

            code.Vfmadd231ps(result, sum, Scale(i));
            if (offsets == MachineOffsets.Bias)
            {
                code.Vfmadd231ps(result, Offset(i), B);
            }
        }
    }

    /// <summary>y = floats · scale of the row + bias.</summary>
    private void EmitResult()
    {
        code.Mov(Words, CallFrame.Field(TileArgument.Bias));
        code.Mov(X, CallFrame.Field(TileArgument.XScales));
        code.Mov(Row, CallFrame.Field(TileArgument.Y));
        code.Vmovups(W(0), new Address(Words));
        code.Vmovups(W(1), new Address(Words, VectorBytes));
        for (int row = 0; row < rows; row++)
        {
            for (int i = 0; i < 2; i++)
            {
                code.VmulpsBroadcast(F(row, i), F(row, i), new Address(X, row * sizeof(float)));
                code.Vaddps(F(row, i), F(row, i), W(i));
                code.Vmovups(new Address(Row, i * VectorBytes), F(row, i));
            }

            code.Add(Row, CallFrame.Field(TileArgument.YStride));
        }
    }
}
