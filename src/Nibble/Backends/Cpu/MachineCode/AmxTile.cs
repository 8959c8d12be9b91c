namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>How the tiles of <see cref="AmxTile"/> are laid over the product.</summary>
internal enum AmxShape
{
    /// <summary>Up to 16 rows of x.</summary>
    Low,

    /// <summary>17 to 32 rows of x: each tile of codes is used twice.</summary>
    High,

    /// <summary>Up to 16 rows of x; codes of 14 bits in two planes, sum = 128·first + second.</summary>
    Planes,
}

/// <summary>
/// Emits the tile of <see cref="Packings.ByteTiles{S, V, L, B, E}"/> for AMX: up to 32 rows of x times a panel of 32 rows of decoded codes, 64 columns
/// a step (Intel SDM, volume 2, TDPBSSD: 16 rows × 64 bytes times 16 × 64 bytes into 16 × 16 sums). While the tiles of a group multiply, vector
/// instructions add the sums of the group before, from memory in the first-level cache, with its scales and offsets: the floats
/// are combined as in the C# tiles, so the bits are the same.
/// </summary>
internal sealed class AmxTile(Assembler code, AmxShape shape, MachineOffsets offsets)
{
    /// <summary>Rows of x and of codes of a hardware tile, and bytes of its rows.</summary>
    public const int TileRows = 16, TileBytes = 64;

    /// <summary>Bytes of the buffer: integer sums of 32 × 32, then floats.</summary>
    public const int BufferBytes = 2 * FloatsAt;

    // 32 sums of a row of x; all of them.
    private const int RowBytes = 128, FloatsAt = 4096, VectorBytes = 64;

    // Codes of 64 columns of 32 rows of the weight: 16 lines of 4 columns.
    private const int PlaneBytes = TileRows * RowBytes;

    private const Gpr Words = Gpr.Rdx, X = Gpr.R9, XStride = Gpr.R10, LowerX = Gpr.R11, Steps = Gpr.Rcx, Line = Gpr.R8;
    private const Gpr Scales = Gpr.Rbx, Offsets = Gpr.Rsi, Sums = Gpr.Rdi, SumStride = Gpr.R12, Groups = Gpr.R13, Row = Gpr.R14, Buffer = Gpr.R15;

    // In a loop over rows, when no tile is read.
    private const Gpr At = Line, Left = Steps;

    private static readonly Tmm A = new(4), LowerA = new(5), B0 = new(6), B1 = new(7);
    private static readonly Zmm N = new(4), T = new(5);

    private bool IsHigh => shape == AmxShape.High;

    /// <summary>Emits the whole function.</summary>
    public void Emit()
    {
        CallFrame.Enter(code);
        LoadArguments();
        code.Ldtilecfg(new Address(Row));
        EmitZeroFloats();
        code.Mov(Line, RowBytes);
        Label group = code.NewLabel(), isLast = code.NewLabel();
        code.Sub(Groups, 1);
        LoadSteps();
        EmitTiles();
        code.Bind(group);
        EmitStore();
        code.Sub(Groups, 1);
        code.Jcc(Condition.Less, isLast);
        LoadSteps();
        EmitTiles();
        code.Bind(isLast);
        EmitGroupEnd();
        code.Mov(Line, RowBytes);
        code.Cmp(Groups, 0);
        code.Jcc(Condition.NotLess, group);
        code.Tilerelease();
        EmitResult();
        CallFrame.Leave(code);
    }

    private static Zmm V(int i) => new(i);

    private static Zmm Scale(int i) => new(16 + i);

    private static Zmm Offset(int i) => new(18 + i);

    private void LoadArguments()
    {
        (Gpr, TileArgument)[] loads =
        [
            (Words, TileArgument.Words), (X, TileArgument.X), (XStride, TileArgument.XStride), (Scales, TileArgument.Scales),
            (Offsets, TileArgument.Offsets), (Sums, TileArgument.Sums), (SumStride, TileArgument.SumStride), (Groups, TileArgument.Groups),
            (Buffer, TileArgument.Buffer), (Row, TileArgument.TileConfig),
        ];
        foreach ((Gpr register, TileArgument argument) in loads)
        {
            code.Mov(register, CallFrame.Field(argument));
        }

        if (IsHigh)
        {
            code.Lea(LowerX, new Address(X, 0, XStride, 8));
            code.Lea(LowerX, new Address(LowerX, 0, XStride, 8));
        }
    }

    /// <summary>Steps of the group that comes next, when <see cref="Groups"/> tells how many come after it.</summary>
    private void LoadSteps()
    {
        Label ready = code.NewLabel();
        code.Mov(Steps, CallFrame.Field(TileArgument.GroupSteps));
        code.Cmp(Groups, 0);
        code.Jcc(Condition.NotZero, ready);
        code.Mov(Steps, CallFrame.Field(TileArgument.LastSteps));
        code.Bind(ready);
    }

    /// <summary>A loop over the rows of x, through sums and floats.</summary>
    private void ForRows(Action body)
    {
        code.Mov(At, Buffer);
        code.Mov(Left, CallFrame.Field(TileArgument.Rows));
        Label loop = code.Here();
        body();
        code.Add(At, RowBytes);
        code.Sub(Left, 1);
        code.Jcc(Condition.NotZero, loop);
    }

    private void EmitZeroFloats()
    {
        code.Vpxord(V(0), V(0), V(0));
        ForRows(() =>
        {
            code.Vmovups(new Address(At, FloatsAt), V(0));
            code.Vmovups(new Address(At, FloatsAt + VectorBytes), V(0));
        });
    }

    /// <summary>The sums of a group, in tiles 0 to 3.</summary>
    private void EmitTiles()
    {
        for (int i = 0; i < (shape == AmxShape.Low ? 2 : 4); i++)
        {
            code.Tilezero(new Tmm(i));
        }

        Label loop = code.Here();
        code.Tileloadd(A, new Address(X, 0, XStride));
        code.Tileloadd(B0, new Address(Words, 0, Line));
        Product(0, A, B0);
        code.Tileloadd(B1, new Address(Words, VectorBytes, Line));
        Product(1, A, B1);
        if (shape == AmxShape.Planes)
        {
            code.Tileloadd(B0, new Address(Words, PlaneBytes, Line));
            Product(2, A, B0);
            code.Tileloadd(B1, new Address(Words, PlaneBytes + VectorBytes, Line));
            Product(3, A, B1);
        }

        if (IsHigh)
        {
            code.Tileloadd(LowerA, new Address(LowerX, 0, XStride));
            Product(2, LowerA, B0);
            Product(3, LowerA, B1);
            code.Add(LowerX, TileBytes);
        }

        code.Add(Words, shape == AmxShape.Planes ? 2 * PlaneBytes : PlaneBytes);
        code.Add(X, TileBytes);
        code.Sub(Steps, 1);
        code.Jcc(Condition.NotZero, loop);
        code.Add(X, CallFrame.Field(TileArgument.XSkip));
        if (IsHigh)
        {
            code.Add(LowerX, CallFrame.Field(TileArgument.XSkip));
        }
    }

    private void Product(int sum, Tmm x, Tmm codes)
    {
        if (offsets == MachineOffsets.None)
        {
            code.Tdpbssd(new Tmm(sum), x, codes);
        }
        else
        {
            code.Tdpbsud(new Tmm(sum), x, codes);
        }
    }

    private void EmitStore()
    {
        for (int i = 0; i < (shape == AmxShape.Low ? 2 : 4); i++)
        {
            code.Tilestored(new Address(Buffer, (i / 2 * PlaneBytes) + (i % 2 * VectorBytes), Line), new Tmm(i));
        }
    }

    /// <summary>Adds the stored sums of a group, with scales and offsets, to the floats.</summary>
    private void EmitGroupEnd()
    {
        for (int i = 0; i < 2; i++)
        {
            code.Vmovups(Scale(i), new Address(Scales, i * VectorBytes));
            if (offsets != MachineOffsets.None)
            {
                code.Vmovups(Offset(i), new Address(Offsets, i * VectorBytes));
            }
        }

        code.Mov(Row, Sums);
        ForRows(() =>
        {
            if (offsets is MachineOffsets.Real or MachineOffsets.Bias)
            {
                code.Vcvtdq2psBroadcast(N, new Address(Row));
            }

            EmitVectorEnd(0);
            EmitVectorEnd(1);
            code.Add(Row, SumStride);
        });
        code.Add(Sums, sizeof(int));
        code.Add(Scales, CallFrame.Field(TileArgument.ScaleStride));
        code.Add(Offsets, CallFrame.Field(TileArgument.OffsetStride));
    }

    private void EmitVectorEnd(int i)
    {
        Address sums = new(At, i * VectorBytes), floats = new(At, FloatsAt + (i * VectorBytes)), n = new(Row);
        if (shape == AmxShape.Planes || offsets is MachineOffsets.WholeShort or MachineOffsets.Whole)
        {
            code.Vmovups(V(i), sums);
            EmitWhole(i, n);
            code.Vcvtdq2ps(V(i), V(i));
        }
        else
        {
            code.Vcvtdq2ps(V(i), sums);
        }

        if (offsets == MachineOffsets.Real)
        {
            code.Vmulps(T, Offset(i), N);
            code.Vsubps(V(i), V(i), T);
        }

        code.Vfmadd213ps(V(i), Scale(i), floats);
        if (offsets == MachineOffsets.Bias)
        {
            code.Vfmadd231ps(V(i), Offset(i), N);
        }

        code.Vmovups(floats, V(i));
    }

    private void EmitWhole(int i, Address n)
    {
        if (shape == AmxShape.Planes)
        {
            code.Vpslld(V(i), V(i), 7);
            code.Vpaddd(V(i), V(i), new Address(At, PlaneBytes + (i * VectorBytes)));
        }

        if (offsets == MachineOffsets.WholeShort)
        {
            code.VpdpwssdBroadcast(V(i), Offset(i), n);
        }
        else if (offsets == MachineOffsets.Whole)
        {
            code.VpmulldBroadcast(T, Offset(i), n);
            code.Vpsubd(V(i), V(i), T);
        }
    }

    /// <summary>y = floats · scale of the row + bias.</summary>
    private void EmitResult()
    {
        code.Mov(X, CallFrame.Field(TileArgument.XScales));
        code.Mov(Row, CallFrame.Field(TileArgument.Y));
        code.Mov(Words, CallFrame.Field(TileArgument.Bias));
        code.Vmovups(Offset(0), new Address(Words));
        code.Vmovups(Offset(1), new Address(Words, VectorBytes));
        ForRows(() =>
        {
            for (int i = 0; i < 2; i++)
            {
                code.Vmovups(V(i), new Address(At, FloatsAt + (i * VectorBytes)));
                code.VmulpsBroadcast(V(i), V(i), new Address(X));
                code.Vaddps(V(i), V(i), Offset(i));
                code.Vmovups(new Address(Row, i * VectorBytes), V(i));
            }

            code.Add(X, sizeof(float));
            code.Add(Row, CallFrame.Field(TileArgument.YStride));
        });
    }
}
