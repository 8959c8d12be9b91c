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
    // A chunk of a panel: two vectors.
    private const int ChunkBytes = 128, VectorBytes = 64, Vectors = 2;

    // Bytes that are on their way from memory while others are multiplied.
    private const int Ahead = 1024;

    private const Gpr Words = Gpr.Rdx, X = Gpr.R9, Stride = Gpr.R10, Stride3 = Gpr.R11, Steps = Gpr.R8;
    private const Gpr Sums = Gpr.Rdi, Groups = Gpr.R13, Scales = Gpr.Rbx, Offsets = Gpr.Rsi;

    // Sums take the first 16 registers, results the next 8.
    private const int FirstResult = 16;

    private static readonly Zmm Low = new(24), High = new(25), Word = new(28), T = new(29), Scale = new(30), Offset = new(31);

    private readonly int _fields = Fields(format);

    /// <summary>Panels of one call; 1: there is no kernel for these codes.</summary>
    public static int Panels(ByteFormat format) => format switch
    {
        ByteFormat.Bits8 or ByteFormat.Bits4 or ByteFormat.Levels => 4,
        ByteFormat.Bits2 => 2,
        _ => 1,
    };

    /// <summary>The bits that codes are taken out of a word with, in the lowest byte of every 32 bits.</summary>
    public static int Mask(ByteFormat format) => format == ByteFormat.Bits2 ? 0x03030303 : 0x0f0f0f0f;

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
        code.Add(Words, ChunkBytes);
        code.Add(X, sizeof(int) * (format == ByteFormat.Levels ? 2 : _fields));
        code.Sub(Steps, 1);
        code.Jcc(Condition.NotZero, step);
        for (int panel = 0; panel < Panels(format); panel++)
        {
            EmitGroupEnd(panel);
        }

        code.Add(Sums, sizeof(int));
        code.Cmp(Groups, 0);
        code.Jcc(Condition.NotZero, group);
        ForEach((panel, i) => code.Vmovups(new Address(Gpr.R14, ResultAt(panel, i)), Result(panel, i)));
        CallFrame.Leave(code);
    }

    // Sums of their own for each field of a word: a product takes five clocks before its sum can be used again. Levels have one for each plane.
    private static int Fields(ByteFormat format) => format switch
    {
        ByteFormat.Bits2 => 4,
        ByteFormat.Bits4 or ByteFormat.Levels => 2,
        _ => 1,
    };

    private static int ResultAt(int panel, int i) => ((panel * Vectors) + i) * VectorBytes;

    private static Zmm Result(int panel, int i) => new(FirstResult + (panel * Vectors) + i);

    // The masks of 2-bit codes stand where results of a third and fourth panel would.
    private static Zmm FieldMask(int field) => new(20 + field);

    private static Address At(int panel, int displacement) => panel switch
    {
        0 => new(Words, displacement),
        3 => new(Words, displacement, Stride3),
        _ => new(Words, displacement, Stride, panel),
    };

    private Zmm Sum(int panel, int i, int field) => new((((panel * Vectors) + i) * _fields) + field);

    private void ForEach(Action<int, int> body)
    {
        for (int panel = 0; panel < Panels(format); panel++)
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
        if (format == ByteFormat.Bits2)
        {
            code.Vpbroadcastd(FieldMask(0), CallFrame.Field(TileArgument.Buffer));
            for (int field = 1; field < _fields; field++)
            {
                code.Vpslld(FieldMask(field), FieldMask(0), 2 * field);
            }
        }
        else if (format != ByteFormat.Bits8)
        {
            code.Vpbroadcastd(new Zmm(26), CallFrame.Field(TileArgument.Buffer));
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
        code.Prefetcht0(At(panel, (i * VectorBytes) + Ahead));
        code.Vmovups(Word, At(panel, i * VectorBytes));
        switch (format)
        {
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
                for (int field = 0; field < _fields; field++)
                {
                    code.Vpandd(T, FieldMask(field), Word);
                    Product(panel, i, field, T, field);
                }

                break;
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
                code.Vpsrad(sum, sum, field * (8 / _fields));
            }

            code.Vpaddd(first, first, sum);
        }
    }
}
