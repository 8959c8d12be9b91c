using Nibble.Backends.Cpu;
using Nibble.IO;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;
using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// GPTQ (Frantar et al., arXiv 2210.17323): columns are rounded one after another, and the error of each is made up for by the
/// columns that are still free, so that the layer's output on the calibration inputs changes least. Grids are those of
/// round-to-nearest, found when a group comes up, from the weights as they stand then.
/// </summary>
internal sealed class GptqMethod : QuantizationMethod
{
    private const double Damping = 0.01;
    private const double MostDamping = 1;

    public override string Name => "gptq";

    public override string Summary => "column by column with error compensation by the inverse Hessian; needs calibration";

    public override IReadOnlyList<int> SupportedBits { get; } = [2, 3, 4, 8];

    public override bool NeedsCalibration => true;

    protected override QuantizationSettings Defaults { get; } =
        new() { Method = "gptq", Bits = 4, GroupSize = 128, Symmetric = false, ActOrder = false, ScaleDType = DType.F16 };

    protected override void Validate(QuantizationSettings settings) => ValidateGroupSize(settings.GroupSize!.Value);

    public override string PreferredLayout => "gptq";

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        AffineFacts(settings, outFeatures, inFeatures);

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        int rows = (int)weight.Shape[0], columns = (int)weight.Shape[1];
        if (statistics is not GramStatistics gram || gram.Columns != columns)
        {
            Throw.Usage("gptq needs calibration", "no statistics of this layer's inputs were collected", "give a text with --data");
            return null;
        }

        int group = RowGroup(settings.GroupSize!.Value, columns);
        int[] order = Order(gram, settings.ActOrder!.Value);
        float[] factor = Factor(gram, order);
        float[] values = Gather(weight, order, gram);
        GptqSolver solver = new(factor, columns, group, part => GridOf(part, settings));
        byte[] codes = new byte[values.Length];
        Grid[] grids = new Grid[rows * ((columns + group - 1) / group)];
        solver.Solve(values, rows, codes, grids, CpuThreads.Shared(CpuThreads.Choose(null)));
        return Assemble(weight.Shape, codes, grids, order, group, settings);
    }

    private static Grid GridOf(ReadOnlySpan<float> values, QuantizationSettings settings)
    {
        CodeGrid grid = RtnMethod.GridOf(values, settings.Bits!.Value, settings.Symmetric!.Value, settings.ScaleDType!.Value);
        return new Grid(grid.Scale, grid.Zero, (1 << settings.Bits.Value) - 1);
    }

    /// <summary>The columns in the order of visiting: as they stand, or by falling activation energy (act-order).</summary>
    private static int[] Order(GramStatistics gram, bool actOrder)
    {
        int[] order = [.. Enumerable.Range(0, gram.Columns)];
        return actOrder ? [.. order.OrderByDescending(i => gram.Gram[(i * (long)gram.Columns) + i])] : order;
    }

    /// <summary>U of H⁻¹ = Uᵀ·U for the damped Hessian; damping is raised until H is positive definite.</summary>
    private static float[] Factor(GramStatistics gram, int[] order)
    {
        int n = gram.Columns;
        double mean = Enumerable.Range(0, n).Sum(i => gram.Gram[(i * (long)n) + i]) / n;
        for (double damping = Damping; damping <= MostDamping; damping *= 10)
        {
            double[] h = Damped(gram, order, damping * mean);
            if (InverseFactor.TryCompute(h, n, CpuThreads.Shared(CpuThreads.Choose(null))))
            {
                return Array.ConvertAll(h, x => (float)x);
            }
        }

        Throw.Failed(
            "the Hessian is not positive definite, even with its mean diagonal added",
            $"{gram.Tokens:N0} tokens were seen, {gram.DeadInputs} of {n} inputs were always zero, the mean square is {mean / Math.Max(1, gram.Tokens):G3}",
            "use more or other calibration text, or another method for this layer");
        return [];
    }

    private static double[] Damped(GramStatistics gram, int[] order, double added)
    {
        int n = gram.Columns;
        double[] h = new double[(long)n * n];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                h[(i * (long)n) + j] = gram.Gram[(order[i] * (long)n) + order[j]];
            }

            // A dead input says nothing about its column: any positive number keeps the matrix regular.
            ref double diagonal = ref h[(i * (long)n) + i];
            diagonal = diagonal == 0 ? 1 : diagonal + added;
        }

        return h;
    }

    /// <summary>The weights with columns in visiting order; columns of dead inputs become zero, since nothing depends on them.</summary>
    private static float[] Gather(Tensor weight, int[] order, GramStatistics gram)
    {
        int rows = (int)weight.Shape[0], columns = order.Length;
        float[] values = new float[(long)rows * columns];
        for (int row = 0; row < rows; row++)
        {
            ReadOnlySpan<float> source = weight.Slice(row, 1).HostSpan<float>();
            for (int i = 0; i < columns; i++)
            {
                bool dead = gram.Gram[(order[i] * (long)columns) + order[i]] == 0;
                values[(row * columns) + i] = dead ? 0 : source[order[i]];
            }
        }

        return values;
    }

    private static AffineWeight Assemble(Shape shape, byte[] codes, Grid[] grids, int[] order, int group, QuantizationSettings settings)
    {
        Tensor placed = Tensor.OnHost(shape, DType.U8);
        int columns = order.Length;
        for (int row = 0; row < shape[0]; row++)
        {
            Span<byte> target = placed.Slice(row, 1).HostSpan<byte>();
            for (int i = 0; i < columns; i++)
            {
                target[order[i]] = codes[(row * columns) + i];
            }
        }

        int[]? groups = null;
        if (settings.ActOrder!.Value)
        {
            groups = new int[columns];
            for (int i = 0; i < columns; i++)
            {
                groups[order[i]] = i / group;
            }
        }

        return new AffineWeight(
            placed,
            settings.Bits!.Value,
            group,
            Array.ConvertAll(grids, grid => grid.Scale),
            Array.ConvertAll(grids, grid => grid.Zero),
            settings.ScaleDType!.Value,
            columnGroups: groups,
            symmetric: settings.Symmetric!.Value);
    }
}
