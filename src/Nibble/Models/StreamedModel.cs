using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.IO;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tokenization;

namespace Nibble.Models;

/// <summary>
/// A model whose blocks' matrices are read when a pass comes to them, and forgotten afterwards: slow, but a model of any size needs the
/// memory of its embedding and one matrix. The numbers are those of <see cref="LoadedModel"/>, bit for bit.
/// </summary>
internal sealed class StreamedModel : IDisposable
{
    private readonly ModelSource _source;
    private readonly CpuBackend _backend = new(new CpuOptions(null));
    private readonly CausalModel _model;

    private StreamedModel(ModelSource source)
    {
        _source = source;
        Dictionary<string, LinearSpec> specs = Registry.Architecture(source.Config).Linears(source.Config).ToDictionary(spec => spec.Path);
        _model = ModelBuilder.Build(source.Config, new AbsentBlocks(source.Weights), _backend);
        ILinear Streamed(ILinear linear) => new StreamedLinear(linear, () => source.Weights.Linear(specs[linear.Path], _backend));
        foreach (Block block in _model.Blocks)
        {
            block.Replace(linear => specs[linear.Path].Role != LinearRole.Block ? linear
                : linear switch
                {
                    RepairedLinear repaired => new RepairedLinear(Streamed(repaired.Inner), repaired.Term),
                    RoundedLinear rounded => new RoundedLinear(Streamed(rounded.Inner), rounded.Scales),
                    _ => Streamed(linear),
                });
        }
    }

    /// <summary>Sizes.</summary>
    public ModelFacts Facts => _model.Facts;

    /// <summary>The kernel variant in use.</summary>
    public string Kernels => _backend.KernelVariant;

    /// <summary>Opens a folder or GGUF file.</summary>
    public static StreamedModel Open(string path)
    {
        ModelSource source = ModelSource.Open(path, new LoadOptions());
        try
        {
            return new StreamedModel(source);
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>The tokenizer, or null if the model has none.</summary>
    public Tokenizer? Tokenizer()
    {
        try
        {
            return _source.Tokenizer();
        }
        catch (NibbleException error) when (error.Kind == ErrorKind.NotFound)
        {
            return null;
        }
    }

    /// <summary>The logits of every position of one sequence, row after row.</summary>
    public float[] Logits(int[] ids)
    {
        using TokenBatch batch = TokenBatch.PadRight(_model, [ids]);
        using Workspace workspace = new(_backend);
        using KvCache cache = new(_model, 1, ids.Length);
        Tensor hidden = _model.Forward(batch.Input, cache, workspace);
        Tensor logits = workspace.Rent(new Shape(ids.Length, _model.Facts.Labels > 0 ? _model.Facts.Labels : _model.Facts.Vocabulary));
        _model.Logits(hidden, logits);
        float[] values = new float[logits.Shape.Count];
        _backend.Read(logits, values);
        return values;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Dispose();
        _source.Dispose();
        _backend.Dispose();
    }

    private sealed class StreamedLinear(ILinear inner, Func<IPackedWeight> load) : ILinear
    {
        public string Path => inner.Path;

        public IPackedWeight Weight => inner.Weight;

        public Tensor? Bias => inner.Bias;

        public void Forward(Tensor x, Tensor y, in Pass pass)
        {
            using IPackedWeight weight = load();
            Ops.MatMul.Forward(pass.Backend, x, weight, inner.Bias, y);
        }

        public void Dispose() => inner.Dispose();
    }
}
