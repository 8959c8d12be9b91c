using System.Diagnostics;
using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tokenization;

namespace Nibble.Generation;

/// <summary>
/// Generates one batch: prompts padded on the left, then one pass per token for all rows together. All tensors of a step are made
/// once and used again.
/// </summary>
public sealed class Generator : IDisposable
{
    /// <summary>Long prompts run in pieces of this many tokens, so that memory for intermediates stays small.</summary>
    internal const int PrefillTokens = 512;

    private readonly CausalModel _model;
    private readonly GenerationOptions _options;
    private readonly Workspace _workspace;
    private readonly KvCache _cache;
    private readonly PromptCache? _past;
    private readonly PaddedRows _prompts;
    private readonly DecodeStep _decode;
    private readonly Tensor? _firstKey;
    private readonly Tensor _ids, _positions, _logits;
    private readonly Sampler _sampler;
    private readonly GenerationRow[] _rows;
    private readonly int[] _tokens;
    private readonly int[] _nextPositions;
    private readonly float[] _scores;
    private readonly int _lastPosition;

    /// <summary>
    /// Prepares to continue <paramref name="prompts"/>; without a <paramref name="tokenizer"/> steps have no text. With a <paramref name="past"/>
    /// one prompt runs from where it differs from what that has seen.
    /// </summary>
    public Generator(
        CausalModel model, Tokenizer? tokenizer, IReadOnlyCollection<int> eosIds, IReadOnlyList<int[]> prompts, GenerationOptions options, PromptCache? past = null)
    {
        options.Require();
        Require(model.Facts, tokenizer, prompts, options);
        if (past is not null && prompts.Count != 1)
        {
            Throw.Argument("generate", $"a cache of earlier tokens is for one prompt, not for {prompts.Count}");
        }

        (_model, _options, _past) = (model, options, past);
        int first = model.Virtual?.Count ?? 0;
        _prompts = new PaddedRows(prompts, left: true, first);
        int batch = prompts.Count;
        // The last new token is never fed back, so a full context still gives one more token.
        int capacity = _prompts.Length + Math.Min(options.MaxTokens, model.Facts.Context - prompts.Min(row => row.Length) + 1) - 1;
        _cache = past?.Begin(prompts.First(), capacity) ?? new KvCache(model, batch, capacity);
        _workspace = new Workspace(model.Backend);
        _firstKey = _prompts.Starts.Any(start => start > 0) ? TokenBatch.Upload(model.Backend, _prompts.Starts) : null;
        _ids = model.Backend.Allocate(new Shape(batch), DType.I32);
        _positions = model.Backend.Allocate(new Shape(batch), DType.I32);
        _logits = model.Backend.Allocate(new Shape(batch, model.Facts.Vocabulary), DType.F32);
        _sampler = new Sampler(options, model.Facts.Vocabulary);
        _rows = [.. prompts.Select(prompt => new GenerationRow(prompt, tokenizer, eosIds, options, model.Facts.Context))];
        _tokens = new int[batch];
        _decode = new DecodeStep(model, _cache, DecodeOne);
        _lastPosition = first + model.Facts.Context - 1;
        _nextPositions = [.. prompts.Select(prompt => Math.Min(first + prompt.Length, _lastPosition))];
        _scores = new float[_logits.IsOnHost ? 0 : _logits.Shape.Count];
    }

    /// <summary>How long it took; complete when <see cref="Run"/> has ended.</summary>
    public GenerationTimings Timings { get; private set; } = new(TimeSpan.Zero, double.NaN, double.NaN);

    /// <summary>The rows so far.</summary>
    public IReadOnlyList<GeneratedText> Results => [.. _rows.Select(row => row.Result)];

    /// <summary>The steps of all rows, as they come. Can be run once.</summary>
    public IEnumerable<GenerationStep> Run()
    {
        long start = Stopwatch.GetTimestamp();
        Prefill();
        List<GenerationStep> steps = new(_rows.Length);
        Sample(steps);
        TimeSpan first = Stopwatch.GetElapsedTime(start);
        Timings = new GenerationTimings(first, (_rows.Sum(row => row.PromptLength) - Kept) / first.TotalSeconds, double.NaN);
        long decode = Stopwatch.GetTimestamp();
        TimeSpan outside = TimeSpan.Zero;
        for (int later = 0; ; later += steps.Count)
        {
            TimeSpan spent = Stopwatch.GetElapsedTime(decode) - outside;
            Timings = Timings with { DecodeTokensPerSecond = later == 0 ? double.NaN : later / spent.TotalSeconds };
            // What the caller does with a step is not the model's time.
            long given = Stopwatch.GetTimestamp();
            foreach (GenerationStep step in steps)
            {
                yield return step;
            }

            outside += Stopwatch.GetElapsedTime(given);
            if (_rows.All(row => row.Finished))
            {
                yield break;
            }

            _options.Cancellation.ThrowIfCancellationRequested();
            Decode(steps);
        }
    }

    private int Kept => _past?.Kept ?? 0;

    /// <inheritdoc/>
    public void Dispose()
    {
        _decode.Dispose();
        if (_past is null)
        {
            _cache.Dispose();
        }

        _workspace.Dispose();
        _firstKey?.Dispose();
        _ids.Dispose();
        _positions.Dispose();
        _logits.Dispose();
    }

    internal static void Require(ModelFacts facts, Tokenizer? tokenizer, IReadOnlyList<int[]> prompts, GenerationOptions options)
    {
        TokenBatch.Require(facts, prompts);
        if (facts.Labels > 0)
        {
            Throw.Usage($"this {facts.ModelType} is a classifier with {facts.Labels} labels", "it has no head over the vocabulary", "use a language model");
        }

        if (options.LogitBias.Keys.Any(token => token < 0 || token >= facts.Vocabulary))
        {
            Throw.Usage(
                $"a logit bias for token {options.LogitBias.Keys.First(token => token < 0 || token >= facts.Vocabulary)}",
                $"the model's vocabulary has {facts.Vocabulary:N0} entries", "give ids of its tokens");
        }

        if (tokenizer is null && options.Stop.Count > 0)
        {
            Throw.Usage("stop texts need a tokenizer", "this model has none", "stop by the number of tokens instead");
        }
    }

    private void Prefill()
    {
        for (int start = Kept; start < _prompts.Length; start += PrefillTokens)
        {
            _options.Cancellation.ThrowIfCancellationRequested();
            using Workspace.Scope scope = _workspace.Begin();
            int length = Math.Min(PrefillTokens, _prompts.Length - start);
            using Tensor ids = TokenBatch.Upload(_model.Backend, [.. _prompts.Ids.SelectMany(row => row[start..(start + length)])]);
            using Tensor positions = TokenBatch.Upload(_model.Backend, [.. _prompts.Positions.SelectMany(row => row[start..(start + length)])]);
            Tensor hidden = _model.Forward(Input(ids, positions, length), _cache, _workspace);
            for (int row = 0; row < _rows.Length && start + length == _prompts.Length; row++)
            {
                _model.Logits(hidden.Slice(((row + 1) * length) - 1, 1), _logits.Slice(row, 1));
            }

            _model.Backend.Synchronize();
            _past?.Add(_prompts.Ids[0].AsSpan(start, length));
        }
    }

    private ModelInput Input(Tensor ids, Tensor positions, int length) =>
        new(ids, positions, _rows.Length, length, _firstKey) { Starts = _firstKey is null ? null : _prompts.Starts };

    private void Decode(List<GenerationStep> steps)
    {
        _model.Backend.Write<int>(_tokens, _ids);
        _model.Backend.Write<int>(_nextPositions, _positions);
        _decode.Run(_cache.Length);
        _past?.Add(_tokens);
        for (int row = 0; row < _rows.Length; row++)
        {
            // A finished row goes on, unused, at places that exist.
            _nextPositions[row] = Math.Min(_nextPositions[row] + 1, _lastPosition);
        }

        Sample(steps);
    }

    private void DecodeOne()
    {
        using Workspace.Scope scope = _workspace.Begin();
        Tensor hidden = _model.Forward(Input(_ids, _positions, 1), _cache, _workspace);
        _model.Logits(hidden, _logits);
    }

    private void Sample(List<GenerationStep> steps)
    {
        steps.Clear();
        _model.Backend.Synchronize();
        if (!_logits.IsOnHost)
        {
            _model.Backend.Read<float>(_logits, _scores);
        }

        ReadOnlySpan<float> scores = _logits.IsOnHost ? _logits.HostSpan<float>() : _scores;
        int vocabulary = _model.Facts.Vocabulary;
        for (int row = 0; row < _rows.Length; row++)
        {
            if (!_rows[row].Finished)
            {
                steps.Add(_rows[row].Next(row, scores.Slice(row * vocabulary, vocabulary), _sampler, _options));
                _tokens[row] = steps[^1].Token;
            }
        }
    }
}
