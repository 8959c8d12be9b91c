using Nibble.Backends.Cpu;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;
using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// GPTQ (Frantar et al., arXiv 2210.17323): columns are rounded one after another, and the error of each is made up for by the
/// columns that are still free, so that the layer's output on the calibration inputs changes least. Grids are those of
/// round-to-nearest (or shrunk, see <see cref="ClipSearch"/>), found when a group comes up, from the weights as they stand then; static
/// groups have theirs from the dense weights.
/// </summary>
internal sealed class GptqMethod : QuantizationMethod
{
    public override string Name => "gptq";

    public override string Summary => "column by column with error compensation by the inverse Hessian; needs calibration";

    public override IReadOnlyList<int> SupportedBits { get; } = [2, 3, 4, 8];

    public override bool NeedsCalibration => true;

    protected override QuantizationSettings Defaults { get; } =
        new() { Method = "gptq", Bits = 4, GroupSize = 128, Symmetric = false, ActOrder = false, StaticGroups = false, Mse = false, Damping = DampedHessian.DefaultDamping, ScaleDType = DType.F16 };

    protected override void Validate(QuantizationSettings settings)
    {
        ValidateGroupSize(settings.GroupSize!.Value);
        if (settings.Damping is not (>= 0 and <= 1))
        {
            Refuse("--damping", settings.Damping, "possible are shares from 0 to 1");
        }
    }

    public override string PreferredLayout => "gptq";

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        AffineFacts(settings, outFeatures, inFeatures) with { ActOrder = HasIndex(settings, inFeatures) };

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        int rows = (int)weight.Shape[0], columns = (int)weight.Shape[1];
        GramStatistics gram = RequireGram(statistics, columns);
        int group = RowGroup(settings.GroupSize!.Value, columns);
        int[] order = ColumnOrder.Of(gram, settings.ActOrder!.Value);
        float[] values = ColumnOrder.Gather(weight, order, gram);
        CpuThreads threads = CpuThreads.Shared(CpuThreads.Choose(null));
        IGroupGrids rounder = settings.StaticGroups!.Value
            ? new StaticRounder(values, rows, order, group, part => GridOf(part, settings), threads)
            : new GroupRounder(rows, columns, group, part => GridOf(part, settings));
        byte[] codes = new byte[values.Length];
        new GptqSolver(DampedHessian.Factor(gram, order, settings.Damping!.Value), columns).Solve(values, rows, codes, rounder, threads);
        return Assemble(weight.Shape, codes, rounder.Grids, order, group, settings);
    }

    // Groups of columns that stand side by side, and one group a row, need no index.
    private static bool HasIndex(QuantizationSettings settings, nint columns) =>
        settings.ActOrder!.Value && !settings.StaticGroups!.Value && RowGroup(settings.GroupSize!.Value, columns) < columns;

    private static Grid GridOf(ReadOnlySpan<float> values, QuantizationSettings settings)
    {
        CodeGrid grid = settings.Mse!.Value
            ? ClipSearch.GridOf(values, settings.Bits!.Value, settings.Symmetric!.Value, settings.ScaleDType!.Value)
            : RtnMethod.GridOf(values, settings.Bits!.Value, settings.Symmetric!.Value, settings.ScaleDType!.Value);
        return new Grid(grid.Scale, grid.Zero, (1 << settings.Bits.Value) - 1);
    }

    private static AffineWeight Assemble(Shape shape, byte[] codes, Grid[] grids, int[] order, int group, QuantizationSettings settings)
    {
        return new AffineWeight(
            ColumnOrder.Place(codes, order, shape),
            settings.Bits!.Value,
            group,
            Array.ConvertAll(grids, grid => grid.Scale),
            Array.ConvertAll(grids, grid => grid.Zero),
            settings.ScaleDType!.Value,
            columnGroups: Index(order, group, settings),
            symmetric: settings.Symmetric!.Value);
    }

    /// <summary>The group of each column where the weight must name it, else null.</summary>
    internal static int[]? Index(int[] order, int group, QuantizationSettings settings)
    {
        if (!HasIndex(settings, order.Length))
        {
            return null;
        }

        int[] groups = new int[order.Length];
        for (int i = 0; i < order.Length; i++)
        {
            groups[order[i]] = i / group;
        }

        return groups;
    }
}
