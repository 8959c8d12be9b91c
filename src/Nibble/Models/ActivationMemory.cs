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

    public static IEnumerable<MemoryLine> Lines(ModelSizes model, MemoryOptions options)
    {
        long tokens = (long)options.BatchSize * options.SequenceLength;
        int size = options.DType.Size();
        (int hidden, int layers, int heads) = (model.Facts.Hidden, model.Facts.Layers, model.Facts.Heads);
        int outputs = model.Facts.Labels > 0 ? model.Facts.Labels : model.Facts.Vocabulary;
        (long elements, string formula) = OneBlock(model);
        Refuse(options, (Int128)tokens * (elements * layers + outputs));

        long block = tokens * (elements * size + 4L * heads);
        string arithmetic = $"{tokens:N0} tokens × (({formula}) × {size} + 4·{heads}) bytes";
        if (options.GradientCheckpointing)
        {
            yield return new MemoryLine("activations: inputs of blocks", tokens * hidden * size * layers, $"{tokens:N0} tokens × {hidden:N0} × {size} bytes × {layers} layers");
            yield return new MemoryLine("activations: one block", block, arithmetic + ", computed again one block at a time");
        }
        else
        {
            yield return new MemoryLine("activations", block * layers, $"{arithmetic} × {layers} layers");
        }

        yield return MemoryEstimate.Line("logits and their gradient", tokens * outputs, 8, $"{tokens:N0} tokens × {outputs:N0}, F32 each");
    }

    /// <summary>
    /// Elements that one block saves per token: inputs and outputs of both norms (4 hidden); the outputs of its inner matrices
    /// (q, k, v, gate, up); and the inputs of the two matrices that lead back (attention's result, the MLP's inner vector).
    /// </summary>
    private static (long Elements, string Formula) OneBlock(ModelSizes model)
    {
        LinearSpec[] back = model.OneBlock.Where(spec => MemoryEstimate.LastName(spec) is "o_proj" or "down_proj" or "c_proj").ToArray();
        IEnumerable<long> widths = model.OneBlock.Except(back).Select(spec => (long)spec.Out).Concat(back.Select(spec => (long)spec.In));
        long[] all = widths.ToArray();
        IEnumerable<string> terms = all.GroupBy(width => width).Select(group => group.Count() == 1 ? $"{group.Key}" : $"{group.Count()}·{group.Key}");
        return (4L * model.Facts.Hidden + all.Sum(), $"4·{model.Facts.Hidden} + {string.Join(" + ", terms)}");
    }

    private static void Refuse(MemoryOptions options, Int128 elements)
    {
        if (elements > MostElements)
        {
            Throw.Usage(
                $"batch size {options.BatchSize:N0} × {options.SequenceLength:N0} tokens is beyond any estimate",
                $"the activations would have more than {MostElements:N0} elements",
                "use a smaller batch or a shorter sequence");
        }
    }
}
