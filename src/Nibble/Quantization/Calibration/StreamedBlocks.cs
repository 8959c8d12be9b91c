using Nibble.Backends;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tokenization;

namespace Nibble.Quantization.Calibration;

/// <summary>A dense model for work that goes block by block: the matrices of a block are in memory between <see cref="Load"/> and <see cref="Unload"/>, its output head never.</summary>
internal sealed class StreamedBlocks : IDisposable
{
    private readonly IWeightSource _weights;
    private readonly Func<Tokenizer> _tokenizer;
    private readonly Dictionary<string, LinearSpec> _specs;

    /// <summary>A model over any weights, which it then owns.</summary>
    public StreamedBlocks(Formats.ModelConfig config, IWeightSource weights, IBackend backend, Func<Tokenizer> tokenizer)
    {
        (_weights, _tokenizer) = (weights, tokenizer);
        _specs = Registry.Architecture(config).Linears(config).ToDictionary(spec => spec.Path);
        Model = ModelBuilder.Build(config, new AbsentBlocks(weights, head: false), backend);
    }

    /// <summary>The model.</summary>
    public CausalModel Model { get; }

    /// <summary>Opens a folder; the backend stays the caller's.</summary>
    public static StreamedBlocks Open(string path, IBackend backend)
    {
        ModelSource source = ModelSource.Open(path, new LoadOptions());
        try
        {
            return new StreamedBlocks(source.Config, source.Weights, backend, source.Tokenizer);
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>The model's tokenizer.</summary>
    public Tokenizer Tokenizer() => _tokenizer();

    /// <summary>Reads the matrices of a block; with <paramref name="wanted"/> only those whose path it takes.</summary>
    public void Load(Block block, Func<string, bool>? wanted = null)
    {
        foreach (ILinear linear in block.Linears.Where(linear => wanted?.Invoke(linear.Path) != false).ToArray())
        {
            BlockCalibration.Put(block, linear, _weights.Linear(_specs[linear.Path], Model.Backend));
            (_weights as DenseWeightSource)?.DropPages(_specs[linear.Path]);
        }
    }

    /// <summary>Lets go of the matrices of a block, and of repairs around them, which stay their owner's.</summary>
    public static void Unload(Block block)
    {
        foreach (ILinear linear in block.Linears.ToArray())
        {
            BlockCalibration.Put(block, linear, new AbsentWeight(linear.Weight.Out, linear.Weight.In));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Model.Dispose();
        _weights.Dispose();
    }
}
