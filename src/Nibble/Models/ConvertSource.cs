using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;
using Nibble.Tokenization;

namespace Nibble.Models;

/// <summary>A model that is being converted: its matrices dense, one at a time, whatever form they are stored in.</summary>
internal sealed class ConvertSource : IDisposable
{
    private readonly ModelSource _source;
    private readonly IArchitecture _architecture;

    private ConvertSource(ModelSource source)
    {
        _source = source;
        _architecture = Registry.Architecture(source.Config);
        ModelBuilder.Check(_architecture, source.Config, source.Weights);
        Tokenizer = source.Tokenizer();
    }

    public string Path => _source.Path;

    public ModelConfig Config => _source.Config;

    public ModelFacts Facts => _architecture.Facts(Config);

    public IReadOnlyList<LinearSpec> Linears => _architecture.Linears(Config);

    public IReadOnlyList<TensorSpec> Vectors => _architecture.Vectors(Config);

    public Tokenizer Tokenizer { get; }

    public IReadOnlyList<int> EosIds => _source.EosIds(Tokenizer);

    public static ConvertSource Open(string path)
    {
        ModelSource source = ModelSource.Open(path, new LoadOptions());
        try
        {
            return new ConvertSource(source);
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>What a conversion of the weights leaves out.</summary>
    public IReadOnlyList<string> Notes => (_source.Weights as QuantizedWeightSource)?.RoundsActivations == true
        ? ["activations were rounded to 8 bits on fixed scales; the result holds the weights alone and computes with activations as they are"]
        : [];

    /// <summary>A matrix as <c>[out, in]</c>: plain numbers as stored, quantized ones as F32.</summary>
    public Tensor Matrix(LinearSpec spec)
    {
        using QuantizedWeight? weight = _source.Weights switch
        {
            QuantizedWeightSource quantized when quantized.IsQuantized(spec) => quantized.Read(spec),
            GgufWeightSource gguf => gguf.Quantized(spec),
            _ => null,
        };
        if (weight is not null)
        {
            Tensor values = weight.Dequantize();
            using LowRankPair? repair = (_source.Weights as QuantizedWeightSource)?.ReadRepair(spec);
            repair?.AddTo(values);
            return values;
        }

        Tensor stored = Tensor(spec.WeightName);
        if (!spec.StoredTransposed || _source.Weights is GgufWeightSource)
        {
            return stored;
        }

        using (stored)
        {
            return Transpose.Of(stored);
        }
    }

    /// <summary>A tensor that is no matrix of a layer, as stored.</summary>
    public Tensor Tensor(string name) => _source.Weights.Tensor(name);

    /// <summary>config.json for a dense model of this dtype.</summary>
    public byte[] ConfigJson(DType dtype) => _source.ConfigJson(dtype switch { DType.F32 => "float32", DType.F16 => "float16", _ => "bfloat16" });

    /// <summary>The tokenizer's files by name.</summary>
    public IReadOnlyDictionary<string, byte[]> TokenizerFiles() => _source.TokenizerFiles();

    /// <inheritdoc/>
    public void Dispose() => _source.Dispose();
}
