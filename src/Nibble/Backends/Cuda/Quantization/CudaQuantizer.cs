using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Awq;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Hqq;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Quantization;

/// <summary>
/// Quantization methods on a card. Round-to-nearest of every kind, codebooks, LLM.int8 and ternary give the processor's codes and scales, bit for bit;
/// HQQ sums in another order and takes powers of its own, so that a few codes of a million may differ.
/// </summary>
internal sealed class CudaQuantizer(CachingMemory memory, DType compute) : IMatrixQuantizer
{
    private const int GroupsPerBlock = 8, Threads = 32 * GroupsPerBlock;

    /// <inheritdoc/>
    public PhaseTimes? Times { get; set; }

    /// <inheritdoc/>
    public MadeWeight Quantize(string name, Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics = null)
    {
        CudaMatrix made;
        using (In("transfer"))
        {
            made = CudaMatrix.Upload(memory, weight);
            Settle();
        }

        using CudaMatrix matrix = made;
        return Run(name, matrix, matrix.Floats(matrix.Count), settings, statistics);
    }

    /// <inheritdoc/>
    public MadeLayer QuantizeLayer(string name, IPackedWeight dense, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        DenseCudaPacking packing = (DenseCudaPacking)dense;
        using CudaMatrix matrix = CudaMatrix.Of(memory, packing.Argument.Codes, packing.DType, dense.Out, dense.In);
        CudaStorage values = matrix.Floats(matrix.Count);
        MadeWeight made = Run(name, matrix, values, settings, statistics);
        return new MadeLayer(made, Pack(matrix, values));
    }

    /// <inheritdoc/>
    public unsafe IPackedWeight Values(QuantizedWeight weight)
    {
        if (weight is not AffineWeight affine || affine.OutlierThreshold is not null)
        {
            throw new InvalidOperationException($"calibrated methods give affine weights, not a {weight.GetType().Name}");
        }

        using CudaMatrix matrix = CudaMatrix.Empty(memory, weight.Out, weight.In);
        CudaStorage values = matrix.Floats(matrix.Count);
        memory.Upload(weight.Codes.HostPointer, matrix.Codes);
        nint map = affine.ColumnGroups is null ? 0 : matrix.Put<int>(affine.ColumnGroups).Address;
        Values(matrix, matrix.Put<float>(affine.Scales), matrix.Put<float>(affine.Offsets), values, affine.Facts, affine.Groups, map);
        return Pack(matrix, values);
    }

    /// <inheritdoc/>
    public bool TryRound(string name, IPackedWeight master, QuantizationSettings settings, float share, IPackedWeight target)
    {
        if (master is not DenseCudaPacking { DType: DType.F32 } from || target is not DenseCudaPacking { DType: DType.F32 } to)
        {
            return false;
        }

        nint start = from.Argument.Codes, end = to.Argument.Codes, count = master.Out * master.In;
        if (share == 0)
        {
            memory.Device.Copy(start, end, count * sizeof(float));
            return true;
        }

        using CudaMatrix matrix = CudaMatrix.Of(memory, start, DType.F32, master.Out, master.In);
        CudaStorage values = matrix.Floats(matrix.Count);
        Queue(matrix, values, settings, null);
        if (matrix.Failed())
        {
            Explain(name, matrix, settings);
        }

        matrix.Launch("blend_values", CudaGrid.Elements(matrix.Count), start, values.Address, end, share, matrix.Count);
        return true;
    }

    /// <inheritdoc/>
    public IScaleErrors ScaleErrors(IReadOnlyList<(IPackedWeight Dense, WeightFacts Facts)> layers, GramStatistics statistics) =>
        new CudaScaleErrors(memory, layers, (CudaGram)statistics.Device!, statistics.Tokens);

    /// <inheritdoc/>
    public IGramCollector Collect(int columns, PhaseTimes? times) => new CudaGram(memory, columns, times);

    private MadeWeight Run(string name, CudaMatrix matrix, CudaStorage values, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        Func<QuantizedWeight> finish;
        WeightError error;
        using (In("kernels"))
        {
            finish = Queue(matrix, values, settings, statistics);
            Settle();
        }

        QuantizedWeight made;
        using (In("transfer"))
        {
            made = finish();
        }

        if (matrix.Failed())
        {
            made.Dispose();
            Explain(name, matrix, settings);
        }

        using (In("kernels"))
        {
            error = matrix.Error(values.Address);
        }

        return new MadeWeight(made, error);
    }

    private PhaseTimes.Scope In(string phase) => Times?.In(phase) ?? default;

    private void Settle()
    {
        if (Times is not null)
        {
            memory.Device.Synchronize();
        }
    }

    /// <summary>Queues a method's kernels, after which the values stand on the card; the result reads codes and scales from there.</summary>
    private Func<QuantizedWeight> Queue(CudaMatrix matrix, CudaStorage values, QuantizationSettings settings, CalibrationStatistics? statistics) => Registry.Method(settings.Method) switch
    {
        CodebookMethod method => Codebook(matrix, values, method, settings),
        TernaryMethod => Ternary(matrix, values, settings),
        HqqMethod => Hqq(matrix, values, settings),
        RtnMethod method => Affine(matrix, values, method, settings, settings.Symmetric == true ? CudaGridKind.Symmetric : CudaGridKind.Asymmetric),
        QuantoMethod method => Affine(matrix, values, method, settings, settings.Bits == 8 ? CudaGridKind.Byte : CudaGridKind.Shifted),
        LlmInt8Method method => Affine(matrix, values, method, settings, CudaGridKind.Int8),
        AwqMethod method => Awq(matrix, values, method, settings, RequireGram(settings, statistics)),
        GptqMethod => CudaGptq.Queue(memory, matrix, settings, RequireGram(settings, statistics), values),
        _ => Refuse(settings),
    };

    /// <summary>The values for products: as they are, or rounded to the numbers in which those multiply.</summary>
    private DenseCudaPacking Pack(CudaMatrix matrix, CudaStorage values)
    {
        if (compute == DType.F32)
        {
            return new DenseCudaPacking(memory, matrix.Rows, matrix.Columns, DType.F32, matrix.Take(values));
        }

        CudaStorage half = memory.Rent(matrix.Count * sizeof(ushort), "weights");
        matrix.Launch("to_bf16_copy", CudaGrid.Elements(matrix.Count), values.Address, half.Address, matrix.Count);
        return new DenseCudaPacking(memory, matrix.Rows, matrix.Columns, DType.BF16, half);
    }

    private static Func<QuantizedWeight> Refuse(QuantizationSettings settings)
    {
        Throw.Usage($"method {settings.Method} does not run on cuda", "its solver is written for the processor", "leave --device out");
        return null!;
    }

    private static GramStatistics RequireGram(QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        if (statistics is not GramStatistics { Device: CudaGram } gram)
        {
            Throw.Usage($"{settings.Method} needs calibration", "no statistics of this layer's inputs were collected on the card", "give a text with --data");
            return null!;
        }

        return gram;
    }

    // The processor's method names the element, or the scale, that is to blame.
    private static void Explain(string name, CudaMatrix matrix, QuantizationSettings settings)
    {
        using Tensor floats = Tensor.From<float>(new Shape(matrix.Rows, matrix.Columns), DType.F32, matrix.Read(matrix.Dense));
        FiniteCheck.Require(floats, name, settings.Method);
        if (!Registry.Method(settings.Method).NeedsCalibration)
        {
            Registry.Method(settings.Method).Quantize(name, floats, settings).Dispose();
        }

        Throw.BadInput($"{name}: a scale does not fit {settings.ScaleDType}", "the weights are unusually large", "choose --scale-dtype f32 or bf16");
    }

    private static LaunchShape Groups(nint groups) => new(nint.Max(1, (groups + GroupsPerBlock - 1) / GroupsPerBlock), Threads);

    private static Func<QuantizedWeight> Codebook(CudaMatrix matrix, CudaStorage values, CodebookMethod method, QuantizationSettings settings)
    {
        int block = settings.BlockSize!.Value;
        nint blocks = (matrix.Count + block - 1) / block;
        (float[] bounds, byte[] codes) = method.Ranks;
        CudaStorage absmax = matrix.Floats(blocks);
        matrix.Launch(
            "codebook_codes", Groups(blocks), matrix.Dense.Address, matrix.Put<float>(bounds).Address, matrix.Put<byte>(codes).Address, matrix.Codes.Address, absmax.Address, matrix.Count, block);
        float[] scales = matrix.Read(absmax);
        NestedScales? nested = settings.DoubleQuant == true ? DoubleQuantization.Of(scales) : null;
        scales = nested?.Dequantize() ?? scales;
        nint used = nested is null ? absmax.Address : matrix.Put<float>(scales).Address;
        matrix.Launch("codebook_values", CudaGrid.Elements(matrix.Count), matrix.Codes.Address, matrix.Put<float>(method.Levels).Address, used, values.Address, matrix.Count, block);
        return () => new CodebookWeight(matrix.ReadCodes(), method.Levels, block, scales, nested);
    }

    private static Func<QuantizedWeight> Affine(CudaMatrix matrix, CudaStorage values, IQuantizationMethod method, QuantizationSettings settings, CudaGridKind kind)
    {
        WeightFacts facts = method.FactsOf(settings, matrix.Rows, matrix.Columns);
        nint groups = matrix.Rows * facts.GroupsPerRow;
        CudaStorage scales = matrix.Floats(groups), offsets = matrix.Floats(groups);
        matrix.Launch(
            "affine_codes", Groups(groups), matrix.Dense.Address, matrix.Codes.Address, scales.Address, offsets.Address, matrix.Columns, facts.GroupSize, facts.GroupsPerRow, groups,
            (int)kind, facts.Bits, (int)CudaMatrix.NumberOf(facts.ScaleDType), matrix.Flags);
        Values(matrix, scales, offsets, values, facts, groups);
        return () => new AffineWeight(
            matrix.ReadCodes(), facts.Bits, facts.GroupSize, matrix.Read(scales), matrix.Read(offsets), facts.ScaleDType, facts.Form, symmetric: facts.Symmetric) { OutlierThreshold = facts.OutlierThreshold };
    }

    private Func<QuantizedWeight> Awq(CudaMatrix matrix, CudaStorage values, AwqMethod method, QuantizationSettings settings, GramStatistics statistics)
    {
        WeightFacts facts = method.FactsOf(settings, matrix.Rows, matrix.Columns);
        nint groups = matrix.Rows * facts.GroupsPerRow;
        (CudaStorage scales, CudaStorage offsets) = CudaScaleErrors.ClippedGrids(memory, matrix, facts, (CudaGram)statistics.Device!);
        matrix.Launch(
            "affine_codes", Groups(groups), matrix.Dense.Address, matrix.Codes.Address, scales.Address, offsets.Address, matrix.Columns, facts.GroupSize, facts.GroupsPerRow, groups,
            (int)CudaGridKind.Given, facts.Bits, 0, matrix.Flags);
        Values(matrix, scales, offsets, values, facts, groups);
        return () => new AffineWeight(
            matrix.ReadCodes(), facts.Bits, facts.GroupSize, matrix.Read(scales), matrix.Read(offsets), facts.ScaleDType, AffineForm.ZeroPoint, symmetric: facts.Symmetric);
    }

    /// <summary>The values of affine codes on the card; <paramref name="map"/> names each column's group where the columns don't.</summary>
    internal static void Values(CudaMatrix matrix, CudaStorage scales, CudaStorage offsets, CudaStorage values, WeightFacts facts, nint groups, nint map = 0) => matrix.Launch(
        "affine_values", CudaGrid.Elements(matrix.Count), matrix.Codes.Address, scales.Address, offsets.Address, map, values.Address, matrix.Count, matrix.Columns, facts.GroupSize, groups,
        (int)facts.Order, facts.Form == AffineForm.Bias ? 1 : 0);

    private Func<QuantizedWeight> Ternary(CudaMatrix matrix, CudaStorage values, QuantizationSettings settings)
    {
        bool perRow = settings.GroupSize == QuantizationSettings.WholeRow;
        CudaStorage common = matrix.Floats(matrix.Rows), sums = matrix.Rent(matrix.Rows * sizeof(double));
        matrix.Launch("row_magnitudes", new LaunchShape((matrix.Rows + 31) / 32, 32), matrix.Dense.Address, common.Address, sums.Address, matrix.Rows, matrix.Columns);
        TernaryForm.RowFacts[] facts = [.. matrix.Read(common).Zip(memory.Download<double>(sums), (one, sum) => new TernaryForm.RowFacts(one, sum))];
        float[] scales = TernaryForm.Scales(facts, matrix.Columns, perRow, settings.ScaleDType!.Value), ones = new float[matrix.Rows];
        Array.Fill(ones, 1);
        CudaStorage each = matrix.Put<float>(perRow ? scales : [.. Enumerable.Repeat(scales[0], (int)matrix.Rows)]), offsets = matrix.Put<float>(ones);
        matrix.Launch(
            "affine_codes", Groups(matrix.Rows), matrix.Dense.Address, matrix.Codes.Address, each.Address, (nint)0, matrix.Columns, (int)matrix.Columns, (nint)1, matrix.Rows,
            (int)CudaGridKind.Ternary, 2, 0, matrix.Flags);
        WeightFacts whole = new(WeightKind.Affine, matrix.Rows, matrix.Columns, 2, DType.F32) { GroupSize = (int)matrix.Columns };
        Values(matrix, each, offsets, values, whole, matrix.Rows);
        return () => new TernaryWeight(matrix.ReadCodes(), scales, settings.ScaleDType!.Value);
    }

    private static Func<QuantizedWeight> Hqq(CudaMatrix matrix, CudaStorage values, QuantizationSettings settings)
    {
        const int rounds = HqqSolver.Iterations;
        int group = HqqMethod.GroupOf(settings, matrix.Rows, matrix.Columns), bits = settings.Bits!.Value, type = (int)CudaMatrix.NumberOf(settings.ScaleDType!.Value);
        nint groups = matrix.Count / group;
        bool turned = settings.Axis == 0;
        CudaStorage codes = turned ? matrix.Rent(matrix.Count) : matrix.Codes;
        nint rows = matrix.Dense.Address;
        if (turned)
        {
            rows = values.Address;
            matrix.Launch("turn_f32", Tiles(group, groups), matrix.Dense.Address, rows, (nint)group, groups);
        }

        CudaStorage inverses = matrix.Floats(groups), zeros = matrix.Floats(rounds * groups), errors = matrix.Floats(rounds * groups), sums = matrix.Rent(rounds * sizeof(double));
        CudaStorage scales = matrix.Floats(groups), offsets = matrix.Floats(groups);
        matrix.Launch("hqq_solve", Groups(groups), rows, inverses.Address, zeros.Address, errors.Address, groups, group, bits, rounds);
        matrix.Launch("hqq_sum", new LaunchShape(rounds, 1024), errors.Address, sums.Address, groups);
        matrix.Launch("hqq_finish", CudaGrid.Elements(groups), inverses.Address, zeros.Address, sums.Address, scales.Address, offsets.Address, groups, rounds, type, matrix.Flags);
        matrix.Launch(
            "affine_codes", Groups(groups), rows, codes.Address, scales.Address, offsets.Address, (nint)group, group, (nint)1, groups, (int)CudaGridKind.RealZero, bits, type, matrix.Flags);
        if (turned)
        {
            matrix.Launch("turn_u8", Tiles(groups, group), codes.Address, matrix.Codes.Address, groups, (nint)group);
        }

        WeightFacts facts = Registry.Method(settings.Method).FactsOf(settings, matrix.Rows, matrix.Columns);
        Values(matrix, scales, offsets, values, facts, groups);
        return () => new AffineWeight(
            matrix.ReadCodes(), bits, group, matrix.Read(scales), matrix.Read(offsets), facts.ScaleDType, AffineForm.ZeroPoint, facts.Order);
    }

    private static LaunchShape Tiles(nint rows, nint columns) => new((rows + 31) / 32 * ((columns + 31) / 32), 256);
}
