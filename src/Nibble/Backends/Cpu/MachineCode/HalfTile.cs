namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Emits the tile of <see cref="Kernels.Tiles{S, V, L}"/> for few rows of x and F16 weights as they are packed: <c>vcvtph2ps</c> widens 16 at
/// once, and takes subnormal halves at full speed, where a product that corrects the exponent makes the processor stop for each of them.
/// Sums run in the same order: the same bits.
/// </summary>
internal sealed class HalfTile(Assembler code, int rows, int panels)
{
    // A step of a panel: 32 halves, two vectors of floats.
    private const int StepBytes = 64, HalfVectorBytes = 32, VectorBytes = 64, Vectors = 2;

    // Bytes that are on their way from memory while others are multiplied.
    private const int Ahead = 1024;

    private const Gpr Words = Gpr.Rdx, X = Gpr.R9, Stride = Gpr.R10, Stride3 = Gpr.R11, Steps = Gpr.R8, Start = Gpr.Rsi, Y = Gpr.R14, Order = Gpr.Rbx;

    private static readonly Zmm First = new(24), Second = new(25);

    /// <summary>
    /// The order of the two vectors that a step gives, for <c>vpermi2ps</c>: packed halves of a panel are features 0, 16, 1, 17 …, so sums of
    /// features stand in turns, and are put in order once at the end.
    /// </summary>
    public static int[] FeatureOrder { get; } = [.. Enumerable.Range(0, 16).Select(i => 2 * i), .. Enumerable.Range(0, 16).Select(i => (2 * i) + 1)];

    /// <summary>Emits the whole function.</summary>
    public void Emit()
    {
        CallFrame.Enter(code);
        (Gpr, TileArgument)[] loads =
        [
            (Words, TileArgument.Words), (X, TileArgument.X), (Stride, TileArgument.XStride), (Steps, TileArgument.GroupSteps), (Start, TileArgument.Start),
            (Y, TileArgument.Y), (Order, TileArgument.Buffer),
        ];
        foreach ((Gpr register, TileArgument argument) in loads)
        {
            code.Mov(register, CallFrame.Field(argument));
        }

        code.Lea(Stride3, new Address(Stride, 0, Stride, 2));
        for (int sum = 0; sum < rows * panels * Vectors; sum++)
        {
            code.Vpxord(new Zmm(sum), new Zmm(sum), new Zmm(sum));
        }

        EmitSteps();
        Label alone = code.NewLabel(), end = code.NewLabel();
        code.Cmp(Start, 0);
        code.Jcc(Condition.Zero, alone);
        EmitResults(isAdded: true);
        code.Jmp(end);
        code.Bind(alone);
        EmitResults(isAdded: false);
        code.Bind(end);
        CallFrame.Leave(code);
    }

    private static Address At(int panel, int displacement) => panel switch
    {
        0 => new(Words, displacement),
        3 => new(Words, displacement, Stride3),
        _ => new(Words, displacement, Stride, panel),
    };

    private Zmm Sum(int row, int panel, int i) => new((((row * panels) + panel) * Vectors) + i);

    private void EmitSteps()
    {
        Label step = code.Here(), end = code.NewLabel();
        code.Sub(Steps, 1);
        code.Jcc(Condition.Less, end);
        for (int panel = 0; panel < panels; panel++)
        {
            code.Prefetcht0(At(panel, Ahead));
            code.Vcvtph2ps(First, At(panel, 0));
            code.Vcvtph2ps(Second, At(panel, HalfVectorBytes));
            for (int row = 0; row < rows; row++)
            {
                code.Vfmadd231psBroadcast(Sum(row, panel, 0), First, new Address(X, row * sizeof(float)));
                code.Vfmadd231psBroadcast(Sum(row, panel, 1), Second, new Address(X, row * sizeof(float)));
            }
        }

        code.Add(Words, StepBytes);
        code.Add(X, rows * sizeof(float));
        code.Jmp(step);
        code.Bind(end);
    }

    /// <summary>y = sums in order; with what was there (which may be y itself), if anything was.</summary>
    private void EmitResults(bool isAdded)
    {
        for (int row = 0; row < rows; row++)
        {
            for (int vector = 0; vector < panels * Vectors; vector++)
            {
                code.Vmovups(First, new Address(Order, vector % Vectors * VectorBytes));
                code.Vpermi2ps(First, Sum(row, vector / Vectors, 0), Sum(row, vector / Vectors, 1));
                if (isAdded)
                {
                    code.Vaddps(First, First, new Address(Start, vector * VectorBytes));
                }

                code.Vmovups(new Address(Y, vector * VectorBytes), First);
            }

            code.Add(Start, CallFrame.Field(TileArgument.StartStride));
            code.Add(Y, CallFrame.Field(TileArgument.YStride));
        }
    }
}
