using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tokenization;

namespace Nibble.Generation;

/// <summary>
/// Generates for rows that come and go: each has a prompt and options of its own, and every step runs one pass for all rows that are under way,
/// so that they share the reading of the weights (continuous batching: Orca, OSDI 2022, section 4). A row's tokens are those that it would get
/// alone. Keys and values of rows that ended stay, for prompts that begin with the same tokens. One thread at a time.
/// </summary>
public sealed class ContinuousBatch : IDisposable
{
    private readonly CausalModel _model;
    private readonly Tokenizer? _tokenizer;
    private readonly Workspace _workspace;
    private readonly Tensor _ids, _positions, _logits;
    private readonly float[] _scores;
    private readonly PromptCache[] _idle;
    private readonly List<BatchRow> _rows = [];
    private int _idleCount;

    /// <summary>An empty batch.</summary>
    /// <param name="model">The model, which it does not own; nobody else may run it meanwhile.</param>
    /// <param name="tokenizer">Its tokenizer; without one steps have no text.</param>
    /// <param name="capacity">Most rows at once.</param>
    public ContinuousBatch(CausalModel model, Tokenizer? tokenizer, int capacity)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(capacity);
        (_model, _tokenizer, Capacity) = (model, tokenizer, capacity);
        _workspace = new Workspace(model.Backend);
        _ids = model.Backend.Allocate(new Shape(capacity), DType.I32);
        _positions = model.Backend.Allocate(new Shape(capacity), DType.I32);
        _logits = model.Backend.Allocate(new Shape(capacity, model.Facts.Vocabulary), DType.F32);
        _scores = new float[_logits.IsOnHost ? 0 : _logits.Shape.Count];
        _idle = [.. Enumerable.Range(0, capacity).Select(_ => new PromptCache(model))];
        _idleCount = capacity;
    }

    /// <summary>Most rows at once.</summary>
    public int Capacity { get; }

    /// <summary>Rows under way.</summary>
    public IReadOnlyList<BatchRow> Rows => _rows;

    /// <summary>Refuses a prompt or options that no row could have.</summary>
    /// <exception cref="NibbleException">The prompt is empty, too long or has unknown tokens; an option makes no sense.</exception>
    public static void Require(CausalModel model, Tokenizer? tokenizer, int[] prompt, GenerationOptions options)
    {
        options.Require();
        Generator.Require(model.Facts, tokenizer, [prompt], options);
    }

    /// <summary>Lets a row join: the next steps run its prompt, then give its tokens.</summary>
    /// <param name="prompt">Tokens.</param>
    /// <param name="eosIds">Tokens that end its text.</param>
    /// <param name="options">How it is generated; a cancellation token is the caller's business (<see cref="Remove"/>).</param>
    /// <exception cref="NibbleException">As <see cref="Require"/>.</exception>
    public BatchRow Add(int[] prompt, IReadOnlyCollection<int> eosIds, GenerationOptions options)
    {
        Require(_model, _tokenizer, prompt, options);
        if (_rows.Count == Capacity)
        {
            Throw.Argument("join a batch", $"all {Capacity} rows are under way");
        }

        PromptCache past = TakeIdle(prompt);
        try
        {
            // The last new token is never fed back, so a full context still gives one more token.
            int most = Math.Min(options.MaxTokens, _model.Facts.Context - prompt.Length + 1);
            past.Begin(prompt, prompt.Length + most - 1);
            GenerationRow row = new(prompt, _tokenizer, eosIds, options, _model.Facts.Context);
            BatchRow added = new(prompt, past, row, options, new Sampler(options, _model.Facts.Vocabulary));
            _rows.Add(added);
            return added;
        }
        catch
        {
            GiveBack(past);
            throw;
        }
    }

    /// <summary>Lets a row leave, whether it has ended or not. Rows that end leave by themselves.</summary>
    public void Remove(BatchRow row)
    {
        if (_rows.Remove(row))
        {
            row.EndLoneSteps();
            GiveBack(row.Past);
        }
    }

    /// <summary>After a step that threw, by none of its rows' fault: all leave, and nothing is kept of them nor of others.</summary>
    public void Clear()
    {
        _rows.ToList().ForEach(Remove);
        foreach (PromptCache past in _idle)
        {
            past.Clear();
        }
    }

    /// <summary>
    /// Runs a piece of the prompt of the row that waits longest, if one waits, and one token of every row whose prompt has run.
    /// <paramref name="steps"/> gets the new tokens, row by row; <see cref="GenerationStep.Row"/> is 0. <paramref name="failures"/> gets the rows
    /// that ended with an error, which have left: when a pass of several rows fails, each runs once more alone, so that no row fails by another's error.
    /// </summary>
    public void Step(List<(BatchRow Row, GenerationStep Step)> steps, List<(BatchRow Row, Exception Error)> failures)
    {
        steps.Clear();
        failures.Clear();
        BatchRow[] decoding = [.. _rows.Where(row => row.IsDecoding)];
        BatchRow? waiting = _rows.Find(row => !row.IsDecoding);
        if (decoding.Length > 0)
        {
            Decode(decoding, steps, failures);
        }

        if (waiting is not null)
        {
            Prefill(waiting, steps, failures);
        }

        foreach ((BatchRow row, GenerationStep step) in steps)
        {
            if (step.Finish is not null)
            {
                Remove(row);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _rows.ToList().ForEach(Remove);
        foreach (PromptCache past in _idle)
        {
            past.Dispose();
        }

        _workspace.Dispose();
        _ids.Dispose();
        _positions.Dispose();
        _logits.Dispose();
    }

    /// <summary>
    /// The idle cache that keeps more of the prompt than would be lost with it, and the most of those; else the one that was used longest ago:
    /// what the others have in common with the prompt is copied.
    /// </summary>
    private PromptCache TakeIdle(int[] prompt)
    {
        int best = 0, most = 0;
        for (int i = 0; i < _idleCount; i++)
        {
            int common = _idle[i].Common(prompt), gain = common - (_idle[i].Count - common);
            (best, most) = gain > most ? (i, gain) : (best, most);
        }

        PromptCache taken = _idle[best];
        // They stand in the order in which they were given back.
        Array.Copy(_idle, best + 1, _idle, best, _idleCount - best - 1);
        _idleCount--;
        return taken;
    }

    private void GiveBack(PromptCache past) => _idle[_idleCount++] = past;

    private void Prefill(BatchRow row, List<(BatchRow Row, GenerationStep Step)> steps, List<(BatchRow Row, Exception Error)> failures)
    {
        try
        {
            if (RunPiece(row))
            {
                Sample([row], Scores(_logits.Slice(0, 1)), steps, failures);
            }
        }
        catch (Exception error)
        {
            Fail(row, error, failures);
        }
    }

    /// <summary>Runs a piece of a prompt; true with its last, whose logits then stand in the first row.</summary>
    private bool RunPiece(BatchRow row)
    {
        if (!row.HasBegun)
        {
            // Now, not when it joined: what joined with it may have run meanwhile.
            row.Begin(_rows.Select(other => other.Past).Concat(_idle.Take(_idleCount)));
        }

        int start = row.Past.Count, length = Math.Min(Generator.PrefillTokens, row.Prompt.Length - start);
        using Workspace.Scope scope = _workspace.Begin();
        int[] tokens = row.Prompt[start..(start + length)];
        int first = row.Cache.First + start;
        using Tensor ids = TokenBatch.Upload(_model.Backend, tokens);
        using Tensor positions = TokenBatch.Upload(_model.Backend, [.. Enumerable.Range(first, length)]);
        Tensor hidden = _model.Forward(new ModelInput(ids, positions, 1, length), row.Cache, _workspace);
        bool last = start + length == row.Prompt.Length;
        if (last)
        {
            _model.Logits(hidden.Slice(length - 1, 1), _logits.Slice(0, 1));
        }

        _model.Backend.Synchronize();
        row.Past.Add(tokens);
        return last;
    }

    /// <summary>Runs the newest token of each row and chooses the next ones.</summary>
    private void Decode(BatchRow[] rows, List<(BatchRow Row, GenerationStep Step)> steps, List<(BatchRow Row, Exception Error)> failures)
    {
        int[] tokens = [.. rows.Select(row => row.Newest)], ends = [.. rows.Select(row => row.Cache.Length)];
        try
        {
            ReadOnlySpan<float> scores = Scores(rows.Length == 1 && _model.Backend is IStepRecorder ? rows[0].RunAlone(_model) : DecodeTogether(rows, tokens));
            for (int i = 0; i < rows.Length; i++)
            {
                rows[i].Past.Add(tokens.AsSpan(i, 1));
            }

            Sample(rows, scores, steps, failures);
        }
        catch (Exception error) when (rows.Length == 1)
        {
            Fail(rows[0], error, failures);
        }
        catch (Exception)
        {
            for (int i = 0; i < rows.Length; i++)
            {
                // What the pass has written behind it is written again.
                rows[i].Cache.Length = ends[i];
            }

            // Which row it was is not known, or it was memory for all at once.
            foreach (BatchRow row in rows)
            {
                Decode([row], steps, failures);
            }
        }
    }

    private Tensor DecodeTogether(BatchRow[] rows, int[] tokens)
    {
        using Workspace.Scope scope = _workspace.Begin();
        Tensor ids = _ids.Slice(0, rows.Length), positions = _positions.Slice(0, rows.Length), logits = _logits.Slice(0, rows.Length);
        _model.Backend.Write<int>(tokens, ids);
        _model.Backend.Write<int>([.. rows.Select(row => row.Cache.Length)], positions);
        KvCache cache = rows.Length == 1 ? rows[0].Cache : new KvCache([.. rows.Select(row => row.Cache)]);
        Tensor hidden = _model.Forward(new ModelInput(ids, positions, rows.Length, 1), cache, _workspace);
        _model.Logits(hidden, logits);
        return logits;
    }

    /// <summary>Logits on the host. A device's pass may fail here, as it runs on its own.</summary>
    private ReadOnlySpan<float> Scores(Tensor logits)
    {
        _model.Backend.Synchronize();
        if (logits.IsOnHost)
        {
            return logits.HostSpan<float>();
        }

        Span<float> scores = _scores.AsSpan(0, (int)logits.Shape.Count);
        _model.Backend.Read<float>(logits, scores);
        return scores;
    }

    private void Sample(BatchRow[] rows, ReadOnlySpan<float> scores, List<(BatchRow Row, GenerationStep Step)> steps, List<(BatchRow Row, Exception Error)> failures)
    {
        int vocabulary = _model.Facts.Vocabulary;
        for (int i = 0; i < rows.Length; i++)
        {
            try
            {
                steps.Add((rows[i], rows[i].Next(scores.Slice(i * vocabulary, vocabulary))));
            }
            catch (Exception error)
            {
                Fail(rows[i], error, failures);
            }
        }
    }

    private void Fail(BatchRow row, Exception error, List<(BatchRow Row, Exception Error)> failures)
    {
        failures.Add((row, error));
        Remove(row);
        // What it has in memory may be half written.
        row.Past.Clear();
    }
}

/// <summary>One row of a <see cref="ContinuousBatch"/>.</summary>
public sealed class BatchRow
{
    private readonly GenerationRow _row;
    private readonly GenerationOptions _options;
    private readonly Sampler _sampler;
    private LoneStep? _alone;

    internal BatchRow(int[] prompt, PromptCache past, GenerationRow row, GenerationOptions options, Sampler sampler)
    {
        (Prompt, Past, _row, _options, _sampler) = (prompt, past, row, options, sampler);
    }

    /// <summary>Tokens of the prompt that had run before and did not again; known once it runs.</summary>
    public int CachedTokens { get; private set; }

    /// <summary>Text and tokens so far.</summary>
    public GeneratedText Result => _row.Result;

    internal int[] Prompt { get; }

    internal PromptCache Past { get; }

    internal KvCache Cache => Past.Current!;

    /// <summary>True once the prompt runs.</summary>
    internal bool HasBegun { get; private set; }

    /// <summary>True once the first token is there.</summary>
    internal bool IsDecoding => _row.NewTokens > 0;

    internal int Newest { get; private set; }

    /// <summary>Takes what others have of the prompt.</summary>
    internal void Begin(IEnumerable<PromptCache> others)
    {
        HasBegun = true;
        if (others.Where(other => other != Past).MaxBy(other => other.Common(Prompt)) is { } most)
        {
            Past.Borrow(most, Prompt);
        }

        CachedTokens = Past.Kept;
    }

    /// <summary>Runs the newest token with nobody beside it; returns its logits.</summary>
    internal Tensor RunAlone(CausalModel model)
    {
        _alone ??= new LoneStep(model, Cache);
        _alone.Run(Newest);
        return _alone.Logits;
    }

    internal void EndLoneSteps()
    {
        _alone?.Dispose();
        _alone = null;
    }

    internal GenerationStep Next(ReadOnlySpan<float> logits)
    {
        GenerationStep step = _row.Next(0, logits, _sampler, _options);
        Newest = step.Token;
        return step;
    }
}
