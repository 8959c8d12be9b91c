using Nibble.Backends;
using Nibble.Quantization;

namespace Nibble.Tuning;

/// <summary>What training through a quantizer rounds to, and how the rounding comes in.</summary>
/// <param name="Weights">The matrices of the blocks: any method that needs no calibration.</param>
/// <param name="Activations">Int8: the inputs of these layers are rounded to 8 bits, token by token.</param>
/// <param name="WarmupRatio">Share of the steps over which the rounding's part λ rises from 0 to 1.</param>
public sealed record QuantizedTrainingSettings(QuantizationSettings Weights, ActivationType Activations, double WarmupRatio)
{
    /// <summary>
    /// BitNet b1.58 (arXiv 2402.17764) from a pretrained start: ternary weights by the mean magnitude, int8 activations by the largest of a token,
    /// both let in over the first half of the steps, as Hugging Face's "1.58-bit fine-tuning" does (λ = min(2·step/steps, 1)).
    /// </summary>
    public static QuantizedTrainingSettings BitNet { get; } = new(new QuantizationSettings { Method = "ternary" }, ActivationType.Int8, 0.5);

    /// <summary>λ of a step, counted from 0: the model computes with w + λ·(ŵ − w), and the same for activations.</summary>
    public double ShareAt(int step, int steps) => WarmupRatio <= 0 ? 1 : Math.Min(1, step / (WarmupRatio * steps));
}
