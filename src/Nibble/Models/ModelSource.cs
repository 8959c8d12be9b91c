using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization.LowRank;
using Nibble.Templates;
using Nibble.Tokenization;

namespace Nibble.Models;

/// <summary>What a model is loaded from: a folder of Hugging Face's form, or one GGUF file.</summary>
internal abstract class ModelSource : IDisposable
{
    /// <summary>The path.</summary>
    public abstract string Path { get; }

    /// <summary>The configuration, read from the folder or made from the file's metadata.</summary>
    public abstract ModelConfig Config { get; }

    /// <summary>The weights.</summary>
    public abstract IWeightSource Weights { get; }

    /// <summary>Oddities that do not prevent loading.</summary>
    public abstract IReadOnlyList<string> Warnings { get; }

    /// <summary>Opens what a path names.</summary>
    public static ModelSource Open(string path, LoadOptions options) =>
        GgufFile.Names(path) && !Directory.Exists(path) ? new GgufModelSource(path, options) : new FolderModelSource(path, options);

    /// <summary>The files that decide what the weights are.</summary>
    public abstract IReadOnlyList<string> Files { get; }

    /// <summary>Bytes of those that hold tensors.</summary>
    public abstract long WeightBytes { get; }

    /// <summary>Reads the tokenizer.</summary>
    /// <exception cref="NibbleException">There is none, or it is damaged.</exception>
    public abstract Tokenizer Tokenizer();

    /// <summary>Tokens that end a text.</summary>
    public abstract IReadOnlyList<int> EosIds(Tokenizer? tokenizer);

    /// <summary>config.json for a dense model whose tensors are of this dtype.</summary>
    public abstract byte[] ConfigJson(string dtype);

    /// <summary>The tokenizer's files by name, as a model folder has them.</summary>
    public abstract IReadOnlyDictionary<string, byte[]> TokenizerFiles();

    /// <summary>The chat template, or null.</summary>
    public virtual ChatTemplate? ChatTemplate() => Templates.ChatTemplate.FromFiles(TokenizerFiles(), Path);

    /// <inheritdoc/>
    public void Dispose() => Weights.Dispose();
}

/// <summary>A model folder.</summary>
internal sealed class FolderModelSource : ModelSource
{
    private static readonly string[] Configs = ["config.json", "quantize_config.json", "quant_config.json"];

    private readonly HfFolder _folder;

    public FolderModelSource(string path, LoadOptions options)
    {
        _folder = HfFolder.Open(path);
        try
        {
            IWeightSource weights = WeightSources.Open(_folder, options);
            Config = options.Labels is null ? _folder.Config : ClassificationHead.With(_folder.Config, options.Labels);
            Weights = options.Labels is null ? weights : new FreshHeadSource(weights, options.Seed, Config.Text.GetDouble("initializer_range", 0.02, 0));
        }
        catch
        {
            _folder.Dispose();
            throw;
        }
    }

    public override string Path => _folder.Path;

    public override IReadOnlyList<string> Files => [.. _folder.Shards.Select(shard => shard.Path), .. Configs.Select(name => System.IO.Path.Combine(Path, name)).Where(File.Exists)];

    public override long WeightBytes => _folder.Shards.Sum(shard => shard.FileBytes);

    public override ModelConfig Config { get; }

    public override IWeightSource Weights { get; }

    public override IReadOnlyList<string> Warnings => [.. _folder.Warnings, .. Unused()];

    public override Tokenizer Tokenizer() => TokenizerLoader.FromFolder(_folder.Path);

    public override IReadOnlyList<int> EosIds(Tokenizer? tokenizer) => GenerationConfig.EosIds(_folder.Path, _folder.Config, tokenizer);

    public override byte[] ConfigJson(string dtype) => JsonBytes.Of(json =>
    {
        foreach (JsonProperty property in Config.Root.Element.EnumerateObject().Where(property => property.Name is not ("quantization_config" or RepairFolder.Key or "dtype" or "torch_dtype")))
        {
            property.WriteTo(json);
        }

        json.WriteString("dtype", dtype);
    });

    public override ChatTemplate? ChatTemplate() => Templates.ChatTemplate.Find(Path);

    public override IReadOnlyDictionary<string, byte[]> TokenizerFiles() => HfFolderWriter.TokenizerFiles
        .Where(name => File.Exists(System.IO.Path.Combine(Path, name)))
        .ToDictionary(name => name, name => File.ReadAllBytes(System.IO.Path.Combine(Path, name)));

    /// <summary>Tensors of a dense model that no layer takes. (A quantized model has parts of weights under names of its layout.)</summary>
    private IEnumerable<string> Unused()
    {
        IArchitecture architecture = Registry.Architecture(_folder.Config);
        IEnumerable<string> taken = architecture.Linears(_folder.Config).Select(spec => spec.WeightName)
            .Concat(architecture.Vectors(_folder.Config).Select(spec => spec.Name));
        // A tied head may be stored a second time.
        string[] unused = _folder.Config.QuantMethod is null ? [.. Weights.Names.Except(taken).Except(["lm_head.weight"]).Order(StringComparer.Ordinal)] : [];
        return unused.Length == 0 ? [] : [$"{unused.Length:N0} tensors belong to no layer and are not used: {string.Join(", ", unused.Take(10))}"];
    }
}

/// <summary>A GGUF file.</summary>
internal sealed class GgufModelSource : ModelSource
{
    private readonly GgufFile _file;
    private readonly GgufWeightSource _weights;

    public GgufModelSource(string path, LoadOptions options)
    {
        _file = GgufFile.Open(path);
        try
        {
            Config = GgufConfig.Of(_file);
            Refuse(options);
            _weights = new GgufWeightSource(_file, Config, options.Dtype, options.Activations);
        }
        catch
        {
            _file.Dispose();
            throw;
        }
    }

    public override string Path => _file.Path;

    public override IReadOnlyList<string> Files => [_file.Path];

    public override long WeightBytes => _file.FileBytes;

    public override ModelConfig Config { get; }

    public override IWeightSource Weights => _weights;

    public override IReadOnlyList<string> Warnings => _weights.Unused.ToArray() is { Length: > 0 } unused
        ? [$"{unused.Length:N0} tensors belong to no layer and are not used: {string.Join(", ", unused.Take(10))}"]
        : [];

    public override Tokenizer Tokenizer()
    {
        if (GgufTokens.Of(_file.Metadata) is not { } tokens)
        {
            Throw.NotFound($"{Path} has no tokenizer", "its metadata has no tokenizer.ggml.tokens", "use a file with a tokenizer");
            return null;
        }

        return tokens.Build(GgufConfig.Json(_file, null), Limits.Default);
    }

    public override IReadOnlyList<int> EosIds(Tokenizer? tokenizer) => [.. Config.Text.GetInts("eos_token_id").Concat(tokenizer?.EosIds ?? []).Distinct()];

    public override byte[] ConfigJson(string dtype) => GgufConfig.Json(_file, dtype);

    public override IReadOnlyDictionary<string, byte[]> TokenizerFiles() =>
        GgufTokens.Of(_file.Metadata)?.Files().ToDictionary(file => file.Name, file => file.Content) ?? [];

    private void Refuse(LoadOptions options)
    {
        if (options.Quantization is not null || options.Trainable)
        {
            Throw.Usage(
                $"{Path} cannot be {(options.Trainable ? "trained" : "quantized")} as it is",
                "GGUF files are read for running",
                $"make a folder of it first: nibble convert {Path} FOLDER");
        }
    }
}
