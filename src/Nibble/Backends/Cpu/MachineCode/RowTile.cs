using Nibble.Backends.Cpu.Packings;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Emits the product of one row of int8 activations with a run of groups of several panels of packed codes: memory is read in as many streams,
/// each of which the processor's prefetchers follow, where one stream leaves a tenth to a quarter of what memory could give. Integers are exact,
/// floats are combined as <see cref="ByteRows{S, V, L, B, E, F}"/> combines them: the same bits.
/// </summary>
internal sealed class RowTile(Assembler code, ByteFormat format, ByteOffsets offsets, DType scaleType, DType offsetType)
{
    // Two vectors: a chunk of a panel, or a third of one (3 bits).
    private const int PairBytes = 128, VectorBytes = 64, Vectors = 2;

    /// <summary>Panels of one call.</summary>
    public const int Panels = 4;

    // Bytes that are on their way from memory while others are multiplied.
    private const int Ahead = 1024;

    private const Gpr Words = Gpr.Rdx, X = Gpr.R9, Stride = Gpr.R10, Stride3 = Gpr.R11, Steps = Gpr.R8;
    private const Gpr Sums = Gpr.Rdi, Groups = Gpr.R13, Scales = Gpr.Rbx, Offsets = Gpr.Rsi;

    // Three-way logic: the second operand where the third is set, else the first.
    private const byte SecondWhereThird = 0xd8;

    // Sums take the first 16 registers, results the next 8.
    private const int FirstResult = 16;

    private static readonly Zmm Low = new(24), High = new(25), Word = new(28), T = new(29), Scale = new(30), Offset = new(31);

    // Codes of 3 bits while they are put together, where scales and offsets stand later.
    private static readonly Zmm Upper = Scale, Bits = Offset;

    private readonly int _fields = Fields(format);

    /// <summary>The bits that the first codes are taken out of words with; of 3 bits, those of whole codes above those of their low pairs.</summary>
    public static long Mask(ByteFormat format) => format switch
    {
        ByteFormat.Bits2 => 0x03030303,
        ByteFormat.Bits3 => 0x07070707_03030303,
        _ => 0x0f0f0f0f,
    };

    /// <summary>Emits the whole function.</summary>
    public void Emit()
    {
        CallFrame.Enter(code);
        LoadArguments();
        ForEach((panel, i) => code.Vmovups(Result(panel, i), new Address(Gpr.R14, ResultAt(panel, i))));
        Label group = code.Here(), count = code.NewLabel();
        code.Mov(Steps, CallFrame.Field(TileArgument.GroupSteps));
        code.Sub(Groups, 1);
        code.Jcc(Condition.NotZero, count);
        code.Mov(Steps, CallFrame.Field(TileArgument.LastSteps));
        code.Bind(count);
        ForEach((panel, i) => Zero(panel, i));
        Label step = code.Here();
        ForEach(EmitStep);
        code.Add(Words, PairBytes * (format == ByteFormat.Bits3 ? 3 : 1));
        code.Add(X, Columns(format));
        code.Sub(Steps, 1);
        code.Jcc(Condition.NotZero, step);
        for (int panel = 0; panel < Panels; panel++)
        {
            EmitGroupEnd(panel);
        }

        code.Add(Sums, sizeof(int));
        code.Cmp(Groups, 0);
        code.Jcc(Condition.NotZero, group);
        ForEach((panel, i) => code.Vmovups(new Address(Gpr.R14, ResultAt(panel, i)), Result(panel, i)));
        CallFrame.Leave(code);
    }

    // Sums of their own for fields at different places of a byte: codes are multiplied where they stand. Levels have one for each plane.
    private static int Fields(ByteFormat format) => format == ByteFormat.Bits8 ? 1 : 2;

    // Columns of a chunk.
    private static int Columns(ByteFormat format) => format switch
    {
        ByteFormat.Bits2 => 16,
        ByteFormat.Bits3 => 32,
        ByteFormat.Bits8 => 4,
        _ => 8,
    };

    private static int ResultAt(int panel, int i) => ((panel * Vectors) + i) * VectorBytes;

    private static Zmm Result(int panel, int i) => new(FirstResult + (panel * Vectors) + i);

    // What is left of a word for each field; of 3 bits, the low pairs alone and then whole codes.
    private static Zmm FieldMask(int field) => new(24 + field);

    private static Zmm CodeMask(int field) => new(26 + field);

    private static Address At(int panel, int displacement) => panel switch
    {
        0 => new(Words, displacement),
        3 => new(Words, displacement, Stride3),
        _ => new(Words, displacement, Stride, panel),
    };

    private Zmm Sum(int panel, int i, int field) => new((((panel * Vectors) + i) * _fields) + field);

    private void ForEach(Action<int, int> body)
    {
        for (int panel = 0; panel < Panels; panel++)
        {
            body(panel, 0);
            body(panel, 1);
        }
    }

    private void LoadArguments()
    {
        (Gpr, TileArgument)[] loads =
        [
            (Words, TileArgument.Words), (X, TileArgument.X), (Stride, TileArgument.XStride), (Sums, TileArgument.Sums), (Groups, TileArgument.Groups), (Gpr.R14, TileArgument.Y),
        ];
        foreach ((Gpr register, TileArgument argument) in loads)
        {
            code.Mov(register, CallFrame.Field(argument));
        }

        code.Lea(Stride3, new Address(Stride, 0, Stride, 2));
        Address mask = CallFrame.Field(TileArgument.Buffer);
        if (format is ByteFormat.Bits2 or ByteFormat.Bits3)
        {
            code.Vpbroadcastd(FieldMask(0), mask);
            code.Vpslld(FieldMask(1), FieldMask(0), 2);
            code.Vpbroadcastd(CodeMask(0), mask with { Displacement = mask.Displacement + sizeof(int) });
            code.Vpslld(CodeMask(1), CodeMask(0), 2);
        }
        else if (format != ByteFormat.Bits8)
        {
            code.Vpbroadcastd(new Zmm(26), mask);
        }

        if (format == ByteFormat.Levels)
        {
            code.Mov(Scales, CallFrame.Field(TileArgument.Bias));
            code.Vbroadcasti32x4(High, new Address(Scales));
            code.Vbroadcasti32x4(Low, new Address(Scales, 16));
        }
    }

    private void Zero(int panel, int i)
    {
        for (int field = 0; field < _fields; field++)
        {
            code.Vpxord(Sum(panel, i, field), Sum(panel, i, field), Sum(panel, i, field));
        }
    }

    /// <summary>Four columns of each field of one vector.</summary>
    private void EmitStep(int panel, int i)
    {
        Zmm mask = new(26);
        Load(Word, panel, i, 0);
        switch (format)
        {
            case ByteFormat.Bits3:
                Load(Bits, panel, i, 2);
                EmitThree(panel, i, 0);
                Load(Word, panel, i, 1);
                EmitThree(panel, i, 1);
                break;
            case ByteFormat.Bits8:
                Product(panel, i, 0, Word, 0);
                break;
            case ByteFormat.Bits4:
                code.Vpandd(T, mask, Word);
                Product(panel, i, 0, T, 0);
                code.Vpandnd(T, mask, Word);
                Product(panel, i, 1, T, 1);
                break;
            case ByteFormat.Levels:
                code.Vpandd(T, mask, Word);
                EmitLevels(panel, i, 0);
                code.Vpsrld(Word, Word, 4);
                code.Vpandd(T, mask, Word);
                EmitLevels(panel, i, 1);
                break;
            default:
                EmitPairs(panel, i, 0);
                code.Vpsrld(Word, Word, 4);
                EmitPairs(panel, i, 2);
                break;
        }
    }

    private void Load(Zmm to, int panel, int i, int word)
    {
        int at = (word * PairBytes) + (i * VectorBytes);
        code.Prefetcht0(At(panel, at + Ahead));
        code.Vmovups(to, At(panel, at));
    }

    private void EmitPairs(int panel, int i, int column)
    {
        for (int field = 0; field < _fields; field++)
        {
            code.Vpandd(T, FieldMask(field), Word);
            Product(panel, i, field, T, column + field);
        }
    }

    /// <summary>16 columns of 3 bits: the low pairs are in <see cref="Word"/>, the high bits in one half of each byte of <see cref="Bits"/>.</summary>
    private void EmitThree(int panel, int i, int half)
    {
        code.Vpsrld(Upper, Word, 4);
        for (int column = 0; column < 4; column++)
        {
            // From where the high bit stands to above its pair; what comes in from other bytes is masked away.
            int field = column % 2, shift = (2 * field) + 2 - column - (4 * half);
            if (shift >= 0)
            {
                code.Vpslld(T, Bits, shift);
            }
            else
            {
                code.Vpsrld(T, Bits, -shift);
            }

            code.Vpternlogd(T, column < 2 ? Word : Upper, FieldMask(field), SecondWhereThird);
            code.Vpandd(T, CodeMask(field), T);
            Product(panel, i, field, T, (4 * half) + column);
        }
    }

    private void EmitLevels(int panel, int i, int column)
    {
        code.Vpshufb(Scale, Low, T);
        Product(panel, i, 0, Scale, column);
        code.Vpshufb(Scale, High, T);
        Product(panel, i, 1, Scale, column);
    }

    private void Product(int panel, int i, int field, Zmm codes, int column) =>
        code.VpdpbusdBroadcast(Sum(panel, i, field), codes, new Address(X, column * sizeof(int)));

    /// <summary>Adds the sums of a group, with scales and offsets, to the results of a panel.</summary>
    private void EmitGroupEnd(int panel)
    {
        Address scales = CallFrame.Field(TileArgument.PanelScales + panel), zeros = CallFrame.Field(TileArgument.PanelOffsets + panel);
        code.Mov(Scales, scales);
        code.Mov(Offsets, zeros);
        for (int i = 0; i < Vectors; i++)
        {
            Join(panel, i);
            EmitLoad(Scale, Scales, i, scaleType);
            EmitLoad(Offset, Offsets, i, offsetType);
            EmitSum(Sum(panel, i, 0), Result(panel, i));
        }

        code.Add(Scales, CallFrame.Field(TileArgument.ScaleStride));
        code.Add(Offsets, CallFrame.Field(TileArgument.OffsetStride));
        code.Mov(scales, Scales);
        code.Mov(zeros, Offsets);
    }

    /// <summary>16 scales or offsets, from the form in which they are kept.</summary>
    private void EmitLoad(Zmm to, Gpr from, int i, DType type)
    {
        Address address = new(from, i * VectorBytes / sizeof(float) * (int)type.Size());
        switch (type)
        {
            case DType.F16:
                code.Vcvtph2ps(to, address);
                break;
            case DType.BF16:
                code.Vpmovzxwd(to, address);
                code.Vpslld(to, to, 16);
                break;
            case DType.U8:
                code.Vpmovzxbd(to, address);
                code.Vcvtdq2ps(to, to);
                break;
            default:
                code.Vmovups(to, address);
                break;
        }
    }

    private void EmitSum(Zmm sum, Zmm result)
    {
        if (offsets == ByteOffsets.Whole)
        {
            code.Vcvtps2dq(Offset, Offset);
            code.VpmulldBroadcast(T, Offset, new Address(Sums));
            code.Vpsubd(sum, sum, T);
        }
        else
        {
            code.Vcvtdq2psBroadcast(Word, new Address(Sums));
        }

        code.Vcvtdq2ps(sum, sum);
        if (offsets == ByteOffsets.Real)
        {
            code.Vmulps(T, Offset, Word);
            code.Vsubps(sum, sum, T);
        }

        code.Vfmadd231ps(result, sum, Scale);
        if (offsets == ByteOffsets.Bias)
        {
            code.Vfmadd231ps(result, Offset, Word);
        }
    }

    // Codes were multiplied where they stand in their bytes: a shift at the end puts each sum right.
    private void Join(int panel, int i)
    {
        Zmm first = Sum(panel, i, 0);
        for (int field = 1; field < _fields; field++)
        {
            Zmm sum = Sum(panel, i, field);
            if (format == ByteFormat.Levels)
            {
                code.Vpslld(sum, sum, 7);
            }
            else
            {
                code.Vpsrad(sum, sum, format == ByteFormat.Bits4 ? 4 : 2);
            }

            code.Vpaddd(first, first, sum);
        }
    }
}
