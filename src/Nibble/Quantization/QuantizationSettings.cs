using System.Text.Json.Serialization;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// What a user may choose about a quantization. A property that is null was not chosen; a method fills in its defaults
/// (<see cref="IQuantizationMethod.Complete"/>) and refuses what it does not take.
/// </summary>
public sealed record QuantizationSettings
{
    /// <summary>Value of <see cref="GroupSize"/>: one group for each row of the matrix.</summary>
    public const int WholeRow = -1;

    /// <summary>Value of <see cref="GroupSize"/>: one group for the whole matrix.</summary>
    public const int WholeTensor = 0;

    private static readonly (string Flag, Func<QuantizationSettings, object?> Get)[] Fields =
    [
        ("--bits", s => s.Bits), ("--group-size", s => s.GroupSize), ("--symmetric/--asymmetric", s => s.Symmetric),
        ("--block-size", s => s.BlockSize), ("--double-quant", s => s.DoubleQuant), ("--threshold", s => s.Threshold),
        ("--axis", s => s.Axis), ("--act-order", s => s.ActOrder), ("--scale-dtype", s => s.ScaleDType),
        ("--static-groups", s => s.StaticGroups), ("--mse", s => s.Mse), ("--damping", s => s.Damping), ("--compensate", s => s.Compensate),
    ];

    private const int MostRepairRank = 4096, MostRepairIterations = 32;

    /// <summary>Name of the method: <c>nf4</c>, <c>rtn</c> …</summary>
    public required string Method { get; init; }

    /// <summary>Bits of a code.</summary>
    public int? Bits { get; init; }

    /// <summary>Columns that share a scale; <see cref="WholeRow"/> or <see cref="WholeTensor"/> for one scale each.</summary>
    public int? GroupSize { get; init; }

    /// <summary>True: no zero points, the codes lie around the middle one.</summary>
    public bool? Symmetric { get; init; }

    /// <summary>Elements of a block of the flattened matrix (NF4, FP4).</summary>
    public int? BlockSize { get; init; }

    /// <summary>True: the scales of blocks are quantized again.</summary>
    public bool? DoubleQuant { get; init; }

    /// <summary>LLM.int8: activation columns that reach this magnitude are multiplied in high precision.</summary>
    public float? Threshold { get; init; }

    /// <summary>HQQ: the axis along which groups run.</summary>
    public int? Axis { get; init; }

    /// <summary>GPTQ: columns are quantized in the order of falling activation energy.</summary>
    public bool? ActOrder { get; init; }

    /// <summary>GPTQ: the grids of all groups are found from the dense weights, in the matrix's own order of columns.</summary>
    public bool? StaticGroups { get; init; }

    /// <summary>GPTQ: ranges are shrunk where that lessens the error of the group.</summary>
    public bool? Mse { get; init; }

    /// <summary>GPTQ: share of the Hessian's mean diagonal that is added to its diagonal.</summary>
    public float? Damping { get; init; }

    /// <summary>NF4, FP4: codes are chosen column by column on a calibration text, the error of each made up for by those that are still free, as GPTQ does.</summary>
    public bool? Compensate { get; init; }

    /// <summary>Rank of the low-rank term that repairs a part of the error; any method takes it.</summary>
    public int? RepairRank { get; init; }

    /// <summary>How often the matrix is quantized and repaired in turn (LoftQ); 1 repairs the error of the method as it is.</summary>
    public int? RepairIterations { get; init; }

    /// <summary>True: the repair lessens the error of the layer's outputs on the calibration text; false: that of its weights.</summary>
    public bool? RepairWeighted { get; init; }

    /// <summary>quanto: 8 rounds inputs and outputs of layers on scales that a calibration finds; null: activations stay as they are.</summary>
    public int? ActivationBits { get; init; }

    /// <summary>The dtype in which scales are stored; they are rounded to it before codes are chosen.</summary>
    [JsonConverter(typeof(JsonStringEnumConverter<DType>))]
    public DType? ScaleDType { get; init; }

    /// <summary>These settings, with those of <paramref name="other"/> where they were not chosen.</summary>
    public QuantizationSettings Or(QuantizationSettings other) => this with
    {
        Bits = Bits ?? other.Bits,
        GroupSize = GroupSize ?? other.GroupSize,
        Symmetric = Symmetric ?? other.Symmetric,
        BlockSize = BlockSize ?? other.BlockSize,
        DoubleQuant = DoubleQuant ?? other.DoubleQuant,
        Threshold = Threshold ?? other.Threshold,
        Axis = Axis ?? other.Axis,
        ActOrder = ActOrder ?? other.ActOrder,
        StaticGroups = StaticGroups ?? other.StaticGroups,
        Mse = Mse ?? other.Mse,
        Damping = Damping ?? other.Damping,
        Compensate = Compensate ?? other.Compensate,
        ScaleDType = ScaleDType ?? other.ScaleDType,
        RepairRank = RepairRank ?? other.RepairRank,
        RepairIterations = RepairIterations ?? other.RepairIterations,
        RepairWeighted = RepairWeighted ?? other.RepairWeighted,
        ActivationBits = ActivationBits ?? other.ActivationBits,
    };

    /// <summary>True if the work looks at the inputs of layers.</summary>
    internal bool NeedsInputs => RepairWeighted == true || Compensate == true || Registry.Method(Method).NeedsCalibration;

    /// <summary>True if the work needs a text: for the inputs of layers, or for scales of activations.</summary>
    internal bool NeedsText => NeedsInputs || ActivationBits is not null;

    /// <summary>Bytes that the repair takes beside a matrix.</summary>
    internal long RepairBytes(LinearSpec spec) => RepairRank is { } rank ? LowRankPair.BytesOf(spec.In, spec.Out, rank) : 0;

    /// <summary>The settings without a repair.</summary>
    internal QuantizationSettings WithoutRepair() => this with { RepairRank = null, RepairIterations = null, RepairWeighted = null };

    /// <summary>Fills in what belongs to a repair, or refuses it.</summary>
    internal QuantizationSettings CompleteRepair(bool calibrated)
    {
        if (RepairRank is not { } rank)
        {
            if (RepairIterations is not null || RepairWeighted is not null)
            {
                Throw.Usage("--repair-iterations and --repair-weighted belong to --repair-rank", "without a rank there is no repair", "add --repair-rank, for example 16");
            }

            return this;
        }

        if (rank is < 1 or > MostRepairRank || RepairIterations is < 1 or > MostRepairIterations)
        {
            Throw.Usage($"a repair of rank {rank} with {RepairIterations ?? 1} iterations", $"ranks are 1 to {MostRepairRank}, iterations 1 to {MostRepairIterations}", "for example --repair-rank 16");
        }

        return this with { RepairIterations = RepairIterations ?? 1, RepairWeighted = RepairWeighted ?? calibrated };
    }

    /// <summary>The chosen settings but the method and its bits, by name in snake case: the <c>settings</c> of a result document.</summary>
    public IReadOnlyDictionary<string, object> ToDocument()
    {
        (string Name, object? Value)[] all =
        [
            ("group_size", GroupSize), ("symmetric", Symmetric), ("block_size", BlockSize), ("double_quant", DoubleQuant),
            ("threshold", Threshold), ("axis", Axis), ("act_order", ActOrder),
            ("static_groups", StaticGroups), ("mse", Mse), ("damping", Damping), ("compensate", Compensate == true ? true : null), ("scale_dtype", ScaleDType?.ToString().ToLowerInvariant()),
            ("repair_rank", RepairRank), ("repair_iterations", RepairIterations), ("repair_weighted", RepairWeighted),
            ("activation_bits", ActivationBits),
        ];
        return all.Where(item => item.Value is not null).ToDictionary(item => item.Name, item => item.Value!);
    }

    /// <summary>For example <c>rtn bits=4 group_size=64 symmetric=false</c>.</summary>
    public override string ToString() => string.Join(' ', new[] { Method, Bits is null ? null : $"bits={Bits}" }
        .Concat(ToDocument().Select(item => $"{item.Key}={Text(item.Value)}"))
        .OfType<string>());

    /// <summary>Refuses settings that a method with these defaults does not take, all at once.</summary>
    internal static void RefuseForeign(QuantizationSettings settings, QuantizationSettings defaults)
    {
        string[] foreign = [.. Fields.Where(field => field.Get(settings) is not null && field.Get(defaults) is null).Select(field => field.Flag)];
        if (foreign.Length > 0)
        {
            string[] taken = [.. Fields.Where(field => field.Get(defaults) is not null).Select(field => field.Flag)];
            Throw.Usage(
                $"method {defaults.Method} does not take {string.Join(", ", foreign)}",
                $"it takes {string.Join(", ", taken)}",
                "leave the others out, or choose another method");
        }
    }

    private static string Text(object value) => value switch
    {
        bool flag => flag ? "true" : "false",
        IFormattable number => number.ToString(null, System.Globalization.CultureInfo.InvariantCulture),
        _ => value.ToString() ?? string.Empty,
    };
}
