using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>In which numbers products read their activations, where the weight leaves a choice.</summary>
public enum ActivationChoice
{
    /// <summary>F32: what every comparison uses.</summary>
    F32,

    /// <summary>8-bit integers, each row by its largest magnitude.</summary>
    Int8,

    /// <summary>8-bit integers where they are faster.</summary>
    Auto,

    /// <summary>BF16, the weight rounded to it as well, for products of many rows; F32 for few.</summary>
    BF16,
}

/// <summary>How a model is loaded.</summary>
public sealed record LoadOptions
{
    /// <summary><c>auto</c>, <c>cpu</c>, <c>cuda</c> or <c>cuda:1</c> …</summary>
    public string Device { get; init; } = "auto";

    /// <summary>Threads of the CPU backend; null for NIBBLE_THREADS, or one per processor.</summary>
    public int? Threads { get; init; }

    /// <summary>Numbers in which products of many rows multiply: F32 or BF16 (sums in F32). On CUDA activations are BF16 then, too.</summary>
    public DType Compute { get; init; } = DType.F32;

    /// <summary>Activations of quantized layers.</summary>
    public ActivationChoice Activations { get; init; } = ActivationChoice.F32;

    /// <summary>In which numbers keys and values stand in the cache.</summary>
    public KvCacheType KvCache { get; init; }

    /// <summary>Dtype of dense matrices: F32, BF16 or F16; null keeps what the file has.</summary>
    public DType? Dtype { get; init; }

    /// <summary>Quantize the matrices of a dense model while it loads; null keeps them dense.</summary>
    public PlanRequest? Quantization { get; init; }

    /// <summary>Folder of a PEFT adapter that is put on the model.</summary>
    public string? Adapter { get; init; }

    /// <summary>Names of the labels of a classification head that takes the place of the model's own head; null keeps that. An adapter with a head brings its own.</summary>
    public IReadOnlyList<string>? Labels { get; init; }

    /// <summary>Seed of a head that the model does not have yet.</summary>
    public int Seed { get; init; } = 1234;

    /// <summary>
    /// Where packed weights are kept for the next start on the processor: <c>beside</c> the model (its folder <c>.nibble-cache</c>), a folder, or
    /// <c>off</c>; null is off. Models of less than 64 MB are never kept.
    /// </summary>
    public string? PackCache { get; init; }

    /// <summary>For tests: the smallest model that is kept.</summary>
    internal long? LeastPackedBytes { get; init; }

    /// <summary>The folder's weights are not read: the model starts as random numbers that depend on <see cref="Seed"/>.</summary>
    internal bool FromScratch { get; init; }

    /// <summary>Every matrix comes dense, quantized ones as their values, so that all parameters can be trained: F32, or <see cref="Dtype"/>. Vectors come as F32.</summary>
    public bool Trainable { get; init; }
}
