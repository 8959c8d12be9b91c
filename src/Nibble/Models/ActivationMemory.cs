using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// Activations that the backward pass needs. Attention is counted as computed in tiles: the weights over all pairs of tokens are
/// never stored, only one log-sum per head and token.
/// </summary>
internal static class ActivationMemory
{
    private const long MostElements = 100_000_000_000_000_000;

    public static IEnumerable<MemoryLine> Lines(ModelDimensions model, MemoryOptions options)
    {
        long tokens = (long)options.BatchSize * options.SequenceLength;
        int size = options.DType.Size();
        Refuse(model, options, tokens);
        long block = tokens * BytesPerToken(model, size);
        string perBlock = $"{tokens:N0} tokens × (({Formula(model)}) × {size} + 4·{model.Heads}) bytes";
        if (options.GradientCheckpointing)
        {
            yield return new MemoryLine("activations: inputs of blocks", tokens * model.Hidden * size * model.Layers, $"{tokens:N0} tokens × {model.Hidden:N0} × {size} bytes × {model.Layers} layers");
            yield return new MemoryLine("activations: one block", block, perBlock + " (computed again, one block at a time)");
        }
        else
        {
            yield return new MemoryLine("activations", block * model.Layers, $"{perBlock} × {model.Layers} layers");
        }

        int outputs = model.Labels > 0 ? model.Labels : model.Vocabulary;
        yield return MemoryEstimate.Line("logits and their gradient", tokens * outputs, 8, $"{tokens:N0} tokens × {outputs:N0}, F32 each");
    }

    private static void Refuse(ModelDimensions model, MemoryOptions options, long tokens)
    {
        int widest = Math.Max(model.Labels, model.Vocabulary);
        if ((Int128)tokens * (Elements(model) * model.Layers + widest) > MostElements)
        {
            Throw.Usage(
                $"batch size {options.BatchSize:N0} × {options.SequenceLength:N0} tokens is beyond any estimate",
                $"the activations would have more than {MostElements:N0} elements",
                "use a smaller batch or a shorter sequence");
        }
    }

    private static long BytesPerToken(ModelDimensions model, int size) => Elements(model) * size + 4L * model.Heads;

    private static long Elements(ModelDimensions d) => d.Family == ModelFamily.Gpt2
        ? 8L * d.Hidden + 2L * d.Intermediate
        : 4L * d.Hidden + 2 * d.QueryWidth + 2 * d.KvWidth + 3L * d.Intermediate;

    // Inputs and outputs of both norms (4 hidden); queries and attention output (2 query widths); keys and values; the MLP's
    // inner vectors: two for GPT-2 (before and after the activation), three for a gated MLP (gate, up, their product).
    private static string Formula(ModelDimensions d) => d.Family == ModelFamily.Gpt2
        ? $"8·{d.Hidden} + 2·{d.Intermediate}"
        : $"4·{d.Hidden} + 2·{d.QueryWidth} + 2·{d.KvWidth} + 3·{d.Intermediate}";
}
