using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Evaluation;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.Formats;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tokenization;
using Nibble.Tuning;

namespace Nibble.Models;

/// <summary>A model folder, ready to run: weights on a backend, tokenizer, configuration.</summary>
public sealed class LoadedModel : IDisposable
{
    private readonly HfFolder _folder;
    private readonly IWeightSource _weights;
    private readonly IAdapter? _adapter;
    private readonly Tokenizer? _tokenizer;
    private readonly NibbleException? _noTokenizer;

    private LoadedModel(HfFolder folder, LoadOptions options, IBackend backend)
    {
        (_folder, Backend) = (folder, backend);
        _weights = WeightSources.Open(folder, options);
        Model = ModelBuilder.Build(folder.Config, _weights, backend);
        if (options.Adapter is not null)
        {
            _adapter = Adapters.Load(options.Adapter, folder.Config, backend);
            _adapter.Attach(Model);
        }

        try
        {
            _tokenizer = TokenizerLoader.FromFolder(folder.Path);
            RequireFit(_tokenizer);
        }
        catch (NibbleException error) when (error.Kind == ErrorKind.NotFound)
        {
            _noTokenizer = error;
        }

        Warnings = [.. folder.Warnings, .. Unused(folder)];
        EosIds = GenerationConfig.EosIds(folder.Path, folder.Config, _tokenizer);
    }

    /// <summary>The folder.</summary>
    public string Path => _folder.Path;

    /// <summary>The model.</summary>
    public CausalModel Model { get; }

    /// <summary>Where it runs.</summary>
    public IBackend Backend { get; }

    /// <summary>Its sizes.</summary>
    public ModelFacts Facts => Model.Facts;

    /// <summary>Its configuration.</summary>
    public ModelConfig Config => _folder.Config;

    /// <summary>Oddities that did not prevent loading.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>Time spent in quantization methods while the model was loaded; null if it was not quantized then.</summary>
    public TimeSpan? QuantizationTime => (_weights as LoadTimeQuantizer)?.QuantizationTime;

    /// <summary>Tokens that end a text.</summary>
    public IReadOnlyList<int> EosIds { get; }

    /// <summary>True if the folder has a tokenizer.</summary>
    public bool HasTokenizer => _tokenizer is not null;

    /// <summary>The tokenizer; a folder without one can still be run on token ids.</summary>
    /// <exception cref="NibbleException">The folder has none; the message says what was looked for.</exception>
    public Tokenizer Tokenizer => _tokenizer ?? throw _noTokenizer!;

    /// <summary>Loads a folder of a Hugging Face model.</summary>
    /// <exception cref="NibbleException">Anything about the folder, its config, weights or tokenizer that does not fit.</exception>
    public static LoadedModel Load(string path, LoadOptions? options = null)
    {
        options ??= new LoadOptions();
        IBackend backend = OpenBackend(options);
        HfFolder? folder = null;
        try
        {
            folder = HfFolder.Open(path);
            return new LoadedModel(folder, options, backend);
        }
        catch
        {
            folder?.Dispose();
            backend.Dispose();
            throw;
        }
    }

    /// <summary>Continues a prompt, piece by piece as text becomes certain.</summary>
    public IEnumerable<string> Generate(string prompt, GenerationOptions? options = null)
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

    /// <summary>Prepares to continue several prompts together.</summary>
    public Generator CreateGenerator(IReadOnlyList<string> prompts, GenerationOptions options) =>
        CreateGenerator([.. prompts.Select(prompt => Tokenizer.Encode(prompt))], options);

    /// <summary>Prepares to continue several rows of tokens together.</summary>
    public Generator CreateGenerator(IReadOnlyList<int[]> prompts, GenerationOptions options) =>
        new(Model, _tokenizer, EosIds, prompts, options);

    /// <summary>
    /// Perplexity of a text in overlapping windows, the protocol <c>window</c> of docs/protocols.md: what <c>nibble eval</c> prints for
    /// the same text. Null sizes take the protocol's defaults.
    /// </summary>
    public double Perplexity(string text, int? window = null, int? stride = null)
    {
        Protocol protocol = Protocol.Create("window", window, stride, Facts.Context);
        EvaluationText document = new("text", [text], TextJoin.Raw);
        float[] losses = new LikelihoodScorer(Model).Score(TokenizedText.Create(document, protocol, document.Join, Tokenizer), protocol);
        return Math.Exp(losses.Sum(loss => (double)loss) / losses.Length);
    }

    /// <summary>log p of each token after the first, given those before it.</summary>
    public float[] LogLikelihoods(ReadOnlySpan<int> tokens)
    {
        int[] row = tokens.ToArray();
        using TokenBatch batch = TokenBatch.PadRight(Model, [row]);
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
        Model.Dispose();
        _adapter?.Dispose();
        _weights.Dispose();
        _folder.Dispose();
        Backend.Dispose();
    }

    private static CpuBackend OpenBackend(LoadOptions options)
    {
        if (options.Device is not ("auto" or "cpu"))
        {
            Throw.Usage($"--device {options.Device} is not available", "this version runs on the processor", "use --device auto or cpu");
        }

        return new CpuBackend(new CpuOptions(options.Threads));
    }

    /// <summary>Tensors of a dense model that no layer takes. (A quantized model has parts of weights under names of its layout.)</summary>
    private IEnumerable<string> Unused(HfFolder folder)
    {
        IArchitecture architecture = Registry.Architecture(folder.Config);
        IEnumerable<string> taken = architecture.Linears(folder.Config).Select(spec => spec.WeightName)
            .Concat(architecture.Vectors(folder.Config).Select(spec => spec.Name));
        // A tied head may be stored a second time.
        string[] unused = folder.Config.QuantMethod is null ? [.. _weights.Names.Except(taken).Except(["lm_head.weight"]).Order(StringComparer.Ordinal)] : [];
        return unused.Length == 0 ? [] : [$"{unused.Length:N0} tensors belong to no layer and are not used: {string.Join(", ", unused.Take(10))}"];
    }

    private void RequireFit(Tokenizer tokenizer)
    {
        if (tokenizer.VocabularySize > Facts.Vocabulary)
        {
            Throw.BadInput(
                $"{Path}: the tokenizer has {tokenizer.VocabularySize:N0} tokens, the embedding {Facts.Vocabulary:N0} rows (vocab_size)",
                "some tokens would have no embedding",
                "use the tokenizer that belongs to this model");
        }
    }
}
