using Nibble.Models;
using Nibble.Runs.Studies;
using Nibble.Tensors;

namespace Nibble.Runs.Recommending;

/// <summary>Memory that running a model takes, part by part.</summary>
/// <param name="WeightBytes">Weights as they stand in memory: measured where the form was measured, else bits × parameters.</param>
/// <param name="CacheBytes">Keys and values of all texts at their full length.</param>
/// <param name="WorkspaceBytes">Intermediates of a prompt's piece of 512 tokens, and logits.</param>
/// <param name="RuntimeBytes">The process or the card's context around it: assumed.</param>
public sealed record RunningMemory(long WeightBytes, long CacheBytes, long WorkspaceBytes, long RuntimeBytes)
{
    // What a process of Nibble takes beside the model, and what a CUDA context takes of a card.
    private const long ProcessBytes = 90_000_000, ContextBytes = 1_000_000_000;

    private const int PieceTokens = 512;

    /// <summary>The sum.</summary>
    public long TotalBytes => WeightBytes + CacheBytes + WorkspaceBytes + RuntimeBytes;

    /// <summary>The parts for one form of a model.</summary>
    internal static RunningMemory Of(ModelSizes sizes, DType stored, StudyMethod method, RecommendRequest request)
    {
        ModelFacts facts = sizes.Facts;
        double bits = method is { Settings: null, Budget: null } ? 8 * stored.Size() : CellEstimate.BitsOf(method);
        double weights = (sizes.Parameters.Blocks * bits / 8) + ((sizes.Parameters.Total - sizes.Parameters.Blocks) * stored.Size());
        long columns = (long)request.KvCache.Columns(facts.HeadDim) * request.KvCache.Storage().Size();
        long cache = 2L * facts.Layers * facts.KvHeads * columns * ContextOf(facts, request) * request.Batch;
        // Residual stream, its norm, q, k, v and the attention's result; gate, up and their product.
        long widest = sizes.OneBlock.Max(spec => (long)spec.Out);
        long workspace = (PieceTokens * 4L * ((6L * facts.Hidden) + (3L * widest))) + (4L * request.Batch * facts.Vocabulary);
        return new RunningMemory((long)weights, cache, workspace, request.Device.StartsWith("cuda", StringComparison.Ordinal) ? ContextBytes : ProcessBytes);
    }

    /// <summary>Tokens of a text that room is made for.</summary>
    internal static int ContextOf(ModelFacts facts, RecommendRequest request) => Math.Min(request.Context ?? 4096, facts.Context);
}
