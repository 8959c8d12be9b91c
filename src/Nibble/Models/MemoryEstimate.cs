using System.Globalization;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>One part of an estimate, with the arithmetic that gives its bytes.</summary>
/// <param name="Part">What the memory holds.</param>
/// <param name="Bytes">How much.</param>
/// <param name="Arithmetic">How it was computed.</param>
public sealed record MemoryLine(string Part, long Bytes, string Arithmetic);

/// <summary>The memory of one way of fine-tuning a model, from its sizes alone.</summary>
/// <param name="Method">full, lora or qlora.</param>
/// <param name="TotalParameters">Parameters of the model, adapters not counted.</param>
/// <param name="TrainableParameters">Parameters that are trained.</param>
/// <param name="Lines">The parts.</param>
public sealed record MemoryEstimate(string Method, long TotalParameters, long TrainableParameters, IReadOnlyList<MemoryLine> Lines)
{
    /// <summary>Device sizes, in GB of 10⁹ bytes, at which fits are marked.</summary>
    public static IReadOnlyList<int> Devices { get; } = [24, 48, 80];

    /// <summary>Sum of all parts.</summary>
    public long TotalBytes => Lines.Sum(line => line.Bytes);

    /// <summary>Device size → whether the estimate fits.</summary>
    public IReadOnlyDictionary<string, bool> Fits => Devices.ToDictionary(size => size.ToString(CultureInfo.InvariantCulture), size => TotalBytes <= size * 1_000_000_000L);

    /// <summary>Estimates one way of fine-tuning.</summary>
    public static MemoryEstimate Of(ModelSizes model, TuningMemory method, MemoryOptions options)
    {
        ParameterCount count = model.Parameters;
        long adapters = method == TuningMemory.Full ? 0 : options.AdapterParameters ?? Adapters(model, options);
        // PEFT trains a classification head whole, beside the adapters.
        long trainable = method == TuningMemory.Full ? count.Total : adapters + (model.Facts.Labels > 0 ? count.Head : 0);
        List<MemoryLine> lines =
        [
            .. Weights(count, method, options),
            .. Training(method, trainable, adapters, options),
            .. ActivationMemory.Lines(model, options),
        ];
        if (method == TuningMemory.Qlora)
        {
            LinearSpec largest = model.OneBlock.MaxBy(spec => spec.Out * spec.In)!;
            lines.Add(Line("dequantization buffer", (long)largest.Out * largest.In, options.DType.Size(), $"largest matrix [{largest.Out}, {largest.In}]"));
        }

        lines.Add(new MemoryLine("context and workspace", options.OverheadBytes, "assumed"));
        return new MemoryEstimate(method.ToString().ToLowerInvariant(), count.Total, trainable, lines);
    }

    /// <summary>Parameters of all adapters: for each target <c>[rank, in]</c> and <c>[out, rank]</c>.</summary>
    /// <exception cref="NibbleException">A target matches no matrix of the model.</exception>
    public static long Adapters(ModelSizes model, MemoryOptions options)
    {
        IReadOnlyList<string> targets = Targets(model, options);
        string[] unmatched = targets.Where(target => !model.OneBlock.Any(spec => Matches(spec, target))).ToArray();
        if (unmatched.Length > 0)
        {
            string known = string.Join(", ", model.OneBlock.Select(LastName).Distinct());
            Throw.Usage($"target modules {string.Join(", ", unmatched)} match no matrix of a {model.Facts.ModelType} model", $"its blocks have {known}");
        }

        return model.Blocks.Where(spec => targets.Any(target => Matches(spec, target))).Sum(spec => options.Rank * ((long)spec.In + spec.Out));
    }

    /// <summary>The modules that get adapters: those asked for, or PEFT's defaults.</summary>
    public static IReadOnlyList<string> Targets(ModelSizes model, MemoryOptions options)
    {
        if (options.TargetModules.Count > 0)
        {
            return options.TargetModules;
        }

        return model.OneBlock.Any(spec => LastName(spec) == "c_attn") ? ["c_attn"] : ["q_proj", "v_proj"];
    }

    internal static MemoryLine Line(string part, long count, int bytesEach, string what) =>
        new(part, count * bytesEach, $"{count:N0} × {bytesEach} bytes ({what})");

    internal static string LastName(LinearSpec spec) => spec.Path[(spec.Path.LastIndexOf('.') + 1)..];

    private static bool Matches(LinearSpec spec, string target) => spec.Path == target || spec.Path.EndsWith("." + target, StringComparison.Ordinal);

    private static IEnumerable<MemoryLine> Weights(ParameterCount count, TuningMemory method, MemoryOptions options)
    {
        int size = options.DType.Size();
        string name = options.DType.ToString();
        if (method != TuningMemory.Qlora)
        {
            yield return Line("weights", count.Total, size, name);
            yield break;
        }

        // A scale per block: F32, or 8 bits plus an F32 for every 256 scales.
        double scaleBits = options.DoubleQuantization ? 8 + 32 / 256.0 : 32;
        double bits = 4 + scaleBits / options.QuantizationBlock;
        string scales = options.DoubleQuantization ? "8 + 32/256" : "32";
        yield return new MemoryLine(
            "weights of the blocks, NF4",
            (long)Math.Ceiling(count.Blocks * bits / 8),
            string.Create(CultureInfo.InvariantCulture, $"{count.Blocks:N0} × {bits:0.####} bits (4 + ({scales})/{options.QuantizationBlock})"));
        yield return Line("other weights", count.Total - count.Blocks, size, $"embeddings, head, norms, biases in {name}");
    }

    private static IEnumerable<MemoryLine> Training(TuningMemory method, long trainable, long adapters, MemoryOptions options)
    {
        int size = options.DType.Size();
        if (method != TuningMemory.Full)
        {
            yield return Line("adapters", adapters, size, options.AdapterParameters is null ? $"rank {options.Rank}, {options.DType}" : $"{options.DType}");
        }

        yield return Line("gradients", trainable, size, $"{options.DType}, trainable parameters");
        if (options.DType != DType.F32)
        {
            yield return Line("master weights", trainable, 4, "F32 copy that the optimizer updates");
        }

        yield return options.StateBytes == 8
            ? Line("optimizer states", trainable, 8, "AdamW: two F32 moments")
            : new MemoryLine("optimizer states", (long)Math.Ceiling(trainable * options.StateBytes), string.Create(CultureInfo.InvariantCulture, $"{trainable:N0} × {options.StateBytes:0.####} bytes"));
    }
}
