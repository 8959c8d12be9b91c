using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>How a model is fine-tuned, for the memory estimate.</summary>
public enum TuningMemory
{
    /// <summary>All parameters are trained.</summary>
    Full,

    /// <summary>Adapters beside a dense frozen base.</summary>
    Lora,

    /// <summary>Adapters beside a frozen base in NF4 with double quantization.</summary>
    Qlora,
}

/// <summary>What the memory of a fine-tuning depends on, beside the model.</summary>
public sealed record MemoryOptions
{
    /// <summary>Rank of the adapters.</summary>
    public int Rank { get; init; } = 8;

    /// <summary>Module names that get adapters (last part of the path); empty for PEFT's defaults: q_proj and v_proj, or c_attn.</summary>
    public IReadOnlyList<string> TargetModules { get; init; } = [];

    /// <summary>Numbers in all adapters; null computes those of LoRA from rank and targets.</summary>
    public long? AdapterParameters { get; init; }

    /// <summary>Bytes of optimizer states for each trained number: 8 for two F32 moments.</summary>
    public double StateBytes { get; init; } = 8;

    /// <summary>Sequences in one step.</summary>
    public int BatchSize { get; init; } = 1;

    /// <summary>Tokens of a sequence.</summary>
    public int SequenceLength { get; init; } = 512;

    /// <summary>Element type of dense weights and saved activations.</summary>
    public DType DType { get; init; } = DType.BF16;

    /// <summary>Keep only each block's input and compute the rest again in the backward pass.</summary>
    public bool GradientCheckpointing { get; init; } = true;

    /// <summary>Block size of NF4.</summary>
    public int QuantizationBlock { get; init; } = 64;

    /// <summary>Quantize the scales of NF4 again.</summary>
    public bool DoubleQuantization { get; init; } = true;

    /// <summary>Bytes for the device's context, libraries and fragmentation: an assumption, shown as such.</summary>
    public long OverheadBytes { get; init; } = 1_000_000_000;
}
