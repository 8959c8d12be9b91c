using Nibble.Backends;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Evaluation;

/// <summary>Sees the hidden states of scored positions while they are in memory, for measures that need more than log p.</summary>
public interface IScoredRows
{
    /// <summary>Hidden states <c>[rows, hidden]</c> that predict the scored tokens <paramref name="first"/> … (counted over the whole text).</summary>
    void Visit(CausalModel model, Tensor hidden, int first, Workspace workspace);
}

/// <summary>
/// Negative log-likelihoods of the tokens that a protocol scores, computed by the model's own kernels. Windows of equal length go
/// through the model together, as many as fit in <see cref="TokensPerPass"/>, never padded: what one window yields does not depend
/// on others (LLM.int8 excepted, whose outlier columns are found per pass). All logits of a pass are never in memory.
/// </summary>
public sealed class LikelihoodScorer(CausalModel model)
{
    /// <summary>Tokens of one forward pass, unless a single window is longer: more costs cache misses and memory, less costs weight reads.</summary>
    public int TokensPerPass { get; init; } = 512;

    private readonly record struct Work(TokenSequence Sequence, ScoringWindow Window, int FirstScored);

    /// <summary>Windows in the largest pass of the last run.</summary>
    public int LargestBatch { get; private set; }

    /// <summary>−log p of every scored token, in the order of the text.</summary>
    /// <param name="text">The tokens.</param>
    /// <param name="protocol">What is run and scored.</param>
    /// <param name="visitor">Sees hidden states on the way; may be null.</param>
    /// <param name="progress">Called with the share of windows done.</param>
    /// <param name="cancellation">Stops between passes.</param>
    public float[] Score(TokenizedText text, Protocol protocol, IScoredRows? visitor = null, Action<double>? progress = null, CancellationToken cancellation = default)
    {
        text.RequireVocabulary(model.Facts.Vocabulary);
        List<Work> work = Plan(text, protocol, out int scored);
        if (scored == 0)
        {
            Throw.BadInput(
                $"the text is too short for protocol {protocol.Name}: no token is scored",
                $"it has {text.Tokens:N0} tokens, a window takes {protocol.Window:N0}",
                "give a longer text, or a smaller --window");
        }

        float[] losses = new float[scored];
        LargestBatch = 0;
        using Workspace workspace = new(model.Backend);
        Dictionary<int, KvCache> caches = [];
        try
        {
            int done = 0;
            foreach (Work[] pass in Passes(work))
            {
                cancellation.ThrowIfCancellationRequested();
                Run(pass, CacheFor(caches, pass), workspace, text.BosId, protocol.RestartsWithBos, visitor, losses);
                done += pass.Length;
                progress?.Invoke((double)done / work.Count);
            }
        }
        finally
        {
            foreach (KvCache cache in caches.Values)
            {
                cache.Dispose();
            }
        }

        return losses;
    }

    private static List<Work> Plan(TokenizedText text, Protocol protocol, out int scored)
    {
        List<Work> work = [];
        scored = 0;
        foreach (TokenSequence sequence in text.Sequences)
        {
            foreach (ScoringWindow window in protocol.Windows(sequence.Ids.Length))
            {
                work.Add(new Work(sequence, window, scored));
                scored += window.Scored;
            }
        }

        return work;
    }

    // Windows of equal length together; OrderBy is stable, so the order inside a length is the text's.
    private IEnumerable<Work[]> Passes(List<Work> work) => work
        .GroupBy(item => item.Window.Length)
        .OrderByDescending(group => group.Key)
        .SelectMany(group => group.Chunk(Math.Max(1, TokensPerPass / group.Key)));

    private KvCache CacheFor(Dictionary<int, KvCache> caches, Work[] pass)
    {
        int length = pass[0].Window.Length;
        if (!caches.TryGetValue(pass.Length, out KvCache? cache) || cache.Capacity < length)
        {
            cache?.Dispose();
            caches[pass.Length] = cache = new KvCache(model, pass.Length, length);
        }

        cache.Reset();
        LargestBatch = Math.Max(LargestBatch, pass.Length);
        return cache;
    }

    private void Run(Work[] pass, KvCache cache, Workspace workspace, int? bos, bool restarts, IScoredRows? visitor, float[] losses)
    {
        using Workspace.Scope scope = workspace.Begin();
        int length = pass[0].Window.Length;
        Tensor ids = workspace.Rent(new Shape(pass.Length * length), DType.I32);
        Tensor positions = workspace.Rent(new Shape(pass.Length * length), DType.I32);
        int[] tokens = [.. pass.SelectMany(item => Tokens(item, restarts ? bos : null))];
        model.Backend.Write<int>(tokens, ids);
        int firstPosition = model.Virtual?.Count ?? 0;
        model.Backend.Write<int>([.. pass.SelectMany(_ => Enumerable.Range(firstPosition, length))], positions);
        Tensor hidden = model.Forward(new ModelInput(ids, positions, pass.Length, length), cache, workspace);
        for (int row = 0; row < pass.Length; row++)
        {
            ScoringWindow window = pass[row].Window;
            // The state at position p predicts token p + 1.
            int first = (row * length) + window.FirstTarget - 1;
            Tensor predicting = hidden.Slice(first, window.Scored);
            Loss(predicting, tokens.AsSpan(first + 1, window.Scored), losses.AsSpan(pass[row].FirstScored, window.Scored), workspace);
            visitor?.Visit(model, predicting, pass[row].FirstScored, workspace);
        }
    }

    private void Loss(Tensor hidden, ReadOnlySpan<int> targets, Span<float> losses, Workspace workspace)
    {
        using Workspace.Scope scope = workspace.Begin();
        Tensor wanted = workspace.Rent(new Shape(targets.Length), DType.I32);
        Tensor logProbabilities = workspace.Rent(new Shape(targets.Length));
        model.Backend.Write(targets, wanted);
        model.LogLikelihood(hidden, wanted, logProbabilities, null, workspace);
        model.Backend.Read(logProbabilities, losses);
        foreach (ref float loss in losses)
        {
            loss = -loss;
            if (!float.IsFinite(loss))
            {
                Throw.Failed("the model computed a log-likelihood that is no number", "its weights or activations overflow", "check the model with 'nibble show', or try another --dtype");
            }
        }
    }

    private static IEnumerable<int> Tokens(Work item, int? bos)
    {
        IEnumerable<int> ids = item.Sequence.Ids.Skip(item.Window.Start).Take(item.Window.Length);
        return bos is { } id ? ids.Skip(1).Prepend(id) : ids;
    }

    /// <summary>Bytes of text behind the scored tokens.</summary>
    public static long ScoredBytes(TokenizedText text, Protocol protocol) => text.Sequences.Sum(sequence => protocol
        .Windows(sequence.Ids.Length)
        .Sum(window => sequence.Bytes.AsSpan(window.Start + window.FirstTarget, window.Scored).ToArray().Sum(bytes => (long)bytes)));
}
