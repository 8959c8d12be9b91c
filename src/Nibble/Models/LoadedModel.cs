using Nibble.Backends;
using Nibble.Evaluation;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.Formats;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Templates;
using Nibble.Tensors;
using Nibble.Tokenization;
using Nibble.Tuning;

namespace Nibble.Models;

/// <summary>A model folder or GGUF file, ready to run: weights on a backend, tokenizer, configuration.</summary>
public sealed class LoadedModel : IDisposable
{
    private readonly ModelSource _source;
    private readonly IAdapter? _adapter;
    private readonly PackCache? _packs;
    private readonly Tokenizer? _tokenizer;
    private readonly NibbleException? _noTokenizer;

    private LoadedModel(ModelSource source, PackCache? packs, LoadOptions options, IBackend backend)
    {
        (_source, _packs, Backend) = (source, packs, backend);
        Model = ModelBuilder.Build(source.Config, packs ?? source.Weights, backend);
        try
        {
            Model.CacheType = options.KvCache;
            if (options.Adapter is not null)
            {
                _adapter = Adapters.Load(options.Adapter, source.Config, backend);
                _adapter.Attach(Model);
            }

            (_tokenizer, _noTokenizer) = ReadTokenizer();
            Warnings = source.Warnings;
            EosIds = source.EosIds(_tokenizer);
        }
        catch
        {
            Model.Dispose();
            _adapter?.Dispose();
            throw;
        }

        packs?.Keep();
    }

    /// <summary>The folder or file.</summary>
    public string Path => _source.Path;

    /// <summary>The model.</summary>
    public CausalModel Model { get; }

    /// <summary>Where it runs.</summary>
    public IBackend Backend { get; }

    /// <summary>Its sizes.</summary>
    public ModelFacts Facts => Model.Facts;

    /// <summary>Its configuration.</summary>
    public ModelConfig Config => _source.Config;

    /// <summary>Oddities that did not prevent loading.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>Time spent in quantization methods while the model was loaded; null if it was not quantized then.</summary>
    public TimeSpan? QuantizationTime => (Stored(_source.Weights) as LoadTimeQuantizer)?.QuantizationTime;

    /// <summary>What became of the packed weights, which waits until a new file is written; null if <see cref="LoadOptions.PackCache"/> had nothing to do.</summary>
    /// <exception cref="ObjectDisposedException">The model was disposed, here and in all methods below.</exception>
    public PackCacheReport? FinishPackCache() => Alive._packs?.Finish();

    /// <summary>Names of a classifier's labels; empty for a language model.</summary>
    public IReadOnlyList<string> LabelNames => ClassificationHead.Names(Config);

    /// <summary>Tokens that end a text.</summary>
    public IReadOnlyList<int> EosIds { get; }

    /// <summary>True if the folder has a tokenizer.</summary>
    public bool HasTokenizer => _tokenizer is not null;

    /// <summary>The tokenizer; a folder without one can still be run on token ids.</summary>
    /// <exception cref="NibbleException">The folder has none; the message says what was looked for.</exception>
    public Tokenizer Tokenizer => _tokenizer ?? throw _noTokenizer!;

    /// <summary>The model's chat template.</summary>
    /// <exception cref="NibbleException">It has none, or it can't be read.</exception>
    public ChatTemplate ChatTemplate() => Alive._source.ChatTemplate() ?? throw Templates.ChatTemplate.Missing(Path);

    /// <summary>The model's chat template, or null if it has none.</summary>
    internal ChatTemplate? FindChatTemplate() => _source.ChatTemplate();

    /// <summary>Loads a folder of a Hugging Face model, or a GGUF file.</summary>
    /// <exception cref="NibbleException">Anything about the model, its config, weights or tokenizer that does not fit.</exception>
    public static LoadedModel Load(string path, LoadOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(path);
        options = Complete(options ?? new LoadOptions(), path);
        // On a card, BF16 weights multiply in BF16.
        bool isHalf = options.Activations == ActivationChoice.BF16 || (options.Dtype == DType.BF16 && options.Device.StartsWith("cuda", StringComparison.Ordinal));
        DType compute = isHalf ? DType.BF16 : options.Compute;
        IBackend backend = BackendKind.Create(options.Device, options.Threads, compute);
        ModelSource? source = null;
        PackCache? packs = null;
        try
        {
            source = ModelSource.Open(path, options);
            packs = PackCache.Open(source, options, backend);
            return new LoadedModel(source, packs, options, backend);
        }
        catch
        {
            packs?.Dispose();
            source?.Dispose();
            backend.Dispose();
            throw;
        }
    }

    /// <summary>Continues a prompt, piece by piece as text becomes certain.</summary>
    public IEnumerable<string> Generate(string prompt, GenerationOptions? options = null) => Alive.Continue(prompt, options);

    /// <summary>Prepares to continue several prompts together.</summary>
    public Generator CreateGenerator(IReadOnlyList<string> prompts, GenerationOptions options) =>
        Alive.CreateGenerator([.. prompts.Select(prompt => Tokenizer.Encode(prompt))], options);

    /// <summary>Prepares to continue several rows of tokens together.</summary>
    public Generator CreateGenerator(IReadOnlyList<int[]> prompts, GenerationOptions options) =>
        new(Alive.Model, _tokenizer, EosIds, prompts, options);

    /// <summary>
    /// Perplexity of a text in overlapping windows, the protocol <c>window</c> of docs/protocols.md: what <c>nibble eval</c> prints for
    /// the same text. Null sizes take the protocol's defaults.
    /// </summary>
    public double Perplexity(string text, int? window = null, int? stride = null)
    {
        Protocol protocol = Protocol.Create("window", window, stride, Facts.Context);
        EvaluationText document = new("text", [text], TextJoin.Raw);
        float[] losses = new LikelihoodScorer(Alive.Model).Score(TokenizedText.Create(document, protocol, document.Join, Tokenizer), protocol);
        return Math.Exp(losses.Sum(loss => (double)loss) / losses.Length);
    }

    /// <summary>log p of each token after the first, given those before it.</summary>
    public float[] LogLikelihoods(ReadOnlySpan<int> tokens)
    {
        int[] row = tokens.ToArray();
        using TokenBatch batch = TokenBatch.PadRight(Alive.Model, [row]);
        using Workspace workspace = new(Backend);
        using KvCache cache = new(Model, 1, row.Length);
        Tensor hidden = Model.Forward(batch.Input, cache, workspace);
        Tensor targets = workspace.Rent(new Shape(row.Length), DType.I32), scores = workspace.Rent(new Shape(row.Length));
        Backend.Write<int>([.. row[1..], -1], targets);
        Model.LogLikelihood(hidden, targets, scores, null, workspace);
        float[] values = new float[row.Length];
        Backend.Read<float>(scores, values);
        return values[..^1];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // Packed weights may still be on their way to the disk.
        _packs?.Finish();
        Model.Dispose();
        _packs?.Dispose();
        _adapter?.Dispose();
        _source.Dispose();
        Backend.Dispose();
    }

    private LoadedModel Alive
    {
        get
        {
            Model.RequireWeights();
            return this;
        }
    }

    /// <summary>The matrix of a layer before it was quantized at loading, F32 on the host; null if it was not.</summary>
    internal Tensor? DenseMatrix(LinearSpec spec) => (Stored(_source.Weights) as LoadTimeQuantizer)?.Dense(spec);

    private static LoadOptions Complete(LoadOptions options, string path) =>
        options.Adapter is null || options.Labels is not null ? options : options with { Labels = Adapters.Labels(options.Adapter, path) };

    private static IWeightSource Stored(IWeightSource source) => source switch
    {
        FreshHeadSource fresh => Stored(fresh.Inner),
        FloatWeightSource floats => Stored(floats.Inner),
        _ => source,
    };

    private IEnumerable<string> Continue(string prompt, GenerationOptions? options)
    {
        using Generator generator = CreateGenerator([prompt], options ?? new GenerationOptions());
        foreach (GenerationStep step in generator.Run())
        {
            if (step.Text.Length > 0)
            {
                yield return step.Text;
            }
        }
    }

    private (Tokenizer?, NibbleException?) ReadTokenizer()
    {
        Tokenizer tokenizer;
        try
        {
            tokenizer = _source.Tokenizer();
        }
        catch (NibbleException error) when (error.Kind == ErrorKind.NotFound)
        {
            return (null, error);
        }

        if (tokenizer.VocabularySize > Facts.Vocabulary)
        {
            Throw.BadInput(
                $"{Path}: the tokenizer has {tokenizer.VocabularySize:N0} tokens, the embedding {Facts.Vocabulary:N0} rows (vocab_size)",
                "some tokens would have no embedding",
                "use the tokenizer that belongs to this model");
        }

        return (tokenizer, null);
    }
}
