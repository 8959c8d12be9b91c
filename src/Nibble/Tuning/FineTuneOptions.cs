using Nibble.Data;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>One fine-tuning: base, data, method and how to train.</summary>
public sealed record FineTuneOptions
{
    /// <summary>Folder of the base model.</summary>
    public required string Model { get; init; }

    /// <summary><c>full</c>, <c>lora</c>, <c>qlora</c>, <c>dora</c>, <c>ia3</c>, <c>prefix</c>, <c>prompt</c>, <c>qat</c> or <c>bitnet</c>.</summary>
    public string Method { get; init; } = "lora";

    /// <summary>True for texts with classes: a classification head takes the place of the model's head.</summary>
    public bool Classification { get; init; }

    /// <summary>Names of the classes; null takes those of the base's head, or of the data.</summary>
    public IReadOnlyList<string>? Labels { get; init; }

    /// <summary>A file, a folder, an address or a name, see docs/data.md.</summary>
    public string? Data { get; init; }

    /// <summary>Held-out data: measured before and after.</summary>
    public string? EvalData { get; init; }

    /// <summary>Read <see cref="Data"/> while training instead of beforehand; needs <see cref="TrainerSettings.MaxSteps"/>.</summary>
    public bool Streaming { get; init; }

    /// <summary>What the fields of rows are.</summary>
    public RowFormat Format { get; init; }

    /// <summary>Split of <see cref="Data"/>; null for the training split where there is one.</summary>
    public string? Split { get; init; }

    /// <summary>Split of <see cref="EvalData"/>; null for the validation split, else the test split.</summary>
    public string? EvalSplit { get; init; }

    /// <summary>Jinja file that turns conversations into text; null for the model's own.</summary>
    public string? ChatTemplate { get; init; }

    /// <summary>The adapter of lora, qlora and dora; its targets are those of ia3, too.</summary>
    public LoraSettings Lora { get; init; } = new();

    /// <summary>Virtual tokens of prefix and prompt.</summary>
    public int VirtualTokens { get; init; } = 20;

    /// <summary>
    /// How a dense base is quantized while it loads; null keeps it dense, but for qlora, which then takes NF4 with double quantization.
    /// With qat: what the matrices of the blocks are trained for (null: <c>rtn</c>, 4 bits); with bitnet null.
    /// </summary>
    public QuantizationSettings? Quantization { get; init; }

    /// <summary>Dtype that full fine-tuning computes with: F32, or BF16, which is rounded from F32 master weights after every step.</summary>
    public DType WeightDtype { get; init; } = DType.F32;

    /// <summary>With full: start at random numbers, not at the folder's weights.</summary>
    public bool FromScratch { get; init; }

    /// <summary>Where to train: <c>auto</c>, <c>cpu</c>, <c>cuda</c> or <c>cuda:1</c> …</summary>
    public string Device { get; init; } = "auto";

    /// <summary>Numbers of activations and products: F32, or BF16 (sums in F32); on the processor only products of many rows round.</summary>
    public DType Activations { get; init; } = DType.F32;

    /// <summary>How to train.</summary>
    public TrainerSettings Trainer { get; init; } = new();

    /// <summary>Folder to write.</summary>
    public string? Output { get; init; }

    /// <summary>Replace an existing output.</summary>
    public bool Force { get; init; }

    /// <summary>Go on from the newest checkpoint in <see cref="Output"/>.</summary>
    public bool Resume { get; init; }

    /// <summary>Leave out rows of the data that can't be used, and count them.</summary>
    public bool SkipBad { get; init; }

    /// <summary>Threads of the CPU backend.</summary>
    public int? Threads { get; init; }

    /// <summary>True for the methods that train an adapter.</summary>
    public bool UsesAdapter => Method is not ("full" or "qat" or "bitnet");

    /// <summary>qat and bitnet: share of the steps over which rounding comes in; null for the method's own (0 and 0.5).</summary>
    public double? LambdaWarmupRatio { get; init; }

    /// <summary>What qat and bitnet round to; null for the other methods.</summary>
    internal QuantizedTrainingSettings? QuantizedTraining => Method switch
    {
        "bitnet" => QuantizedTrainingSettings.BitNet with { WarmupRatio = LambdaWarmupRatio ?? QuantizedTrainingSettings.BitNet.WarmupRatio },
        "qat" => new QuantizedTrainingSettings(Quantization ?? new QuantizationSettings { Method = "rtn" }, Backends.ActivationType.F32, LambdaWarmupRatio ?? 0),
        _ => null,
    };

    /// <summary>The settings of the low-rank adapter, with what the method says.</summary>
    internal LoraSettings LowRank => Lora with { UseDora = Lora.UseDora || Method == "dora", BaseModel = Lora.BaseModel ?? Model };

    /// <summary>The settings of IA3.</summary>
    internal Ia3Settings Ia3 => new() { TargetModules = Lora.TargetModules, TargetsAreRegex = Lora.TargetsAreRegex, BaseModel = Lora.BaseModel ?? Model };
}
