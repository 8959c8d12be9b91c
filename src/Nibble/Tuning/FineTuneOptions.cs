using Nibble.Quantization;

namespace Nibble.Tuning;

/// <summary>One fine-tuning: base, data, method and how to train.</summary>
public sealed record FineTuneOptions
{
    /// <summary>Folder of the base model.</summary>
    public required string Model { get; init; }

    /// <summary><c>full</c>, <c>lora</c> or <c>qlora</c>.</summary>
    public string Method { get; init; } = "lora";

    /// <summary>Text, JSON lines, or a folder of them.</summary>
    public string? Data { get; init; }

    /// <summary>Held-out data: measured before and after.</summary>
    public string? EvalData { get; init; }

    /// <summary>The adapter of lora and qlora.</summary>
    public LoraSettings Lora { get; init; } = new();

    /// <summary>How qlora quantizes a dense base; null for NF4 with double quantization.</summary>
    public QuantizationSettings? Quantization { get; init; }

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
    public bool UsesAdapter => Method != "full";
}
