using Nibble.Formats;
using Nibble.IO;
using Nibble.Nn;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>Writes a model as a GGUF file that llama.cpp and its relatives run.</summary>
internal sealed class GgufExport
{
    private readonly ConvertSource _source;
    private readonly GgufType _type;
    private readonly string _architecture;
    private readonly Dictionary<string, float[]> _computed = [];
    private readonly List<string> _notes = [];

    private GgufExport(ConvertSource source, GgufType type)
    {
        (_source, _type) = (source, type);
        _architecture = source.Config.ModelType == "mistral" ? "llama" : source.Config.ModelType;
        if (!GgufConfig.Architectures.Contains(_architecture))
        {
            Throw.BadInput($"{source.Path}: model_type '{source.Config.ModelType}' cannot be written as GGUF", $"supported are {string.Join(", ", GgufConfig.Architectures)}, mistral", "choose a model of one of these families");
        }
    }

    private string ModelType => _source.Config.ModelType == "gpt2" ? "gpt2" : "llama";

    /// <summary>Writes the file and returns what the user should know: tensors that got another type than the one asked for.</summary>
    public static IReadOnlyList<string> Write(ConvertSource source, string path, GgufType type, CancellationToken cancellation)
    {
        GgufExport export = new(source, type);
        GgufMetadataWriter metadata = export.Metadata();
        List<GgufSpec> specs = [.. export.Specs()];
        using GgufWriter writer = GgufWriter.Create(path, metadata, specs);
        Dictionary<string, LinearSpec> linears = source.Linears.ToDictionary(spec => export.Name(spec.WeightName));
        Dictionary<string, string> vectors = source.Vectors.ToDictionary(spec => export.Name(spec.Name), spec => spec.Name);
        foreach (GgufSpec spec in specs)
        {
            cancellation.ThrowIfCancellationRequested();
            using Tensor stored = export._computed.TryGetValue(spec.Name, out float[]? numbers) ? Tensor.From<float>(new Shape(numbers.Length), DType.F32, numbers)
                : linears.TryGetValue(spec.Name, out LinearSpec? linear) ? source.Matrix(linear)
                : source.Tensor(vectors[spec.Name]);
            export.Append(writer, spec, stored);
        }

        writer.Commit();
        return export._notes;
    }

    private static int FileType(GgufType type) => type switch
    {
        GgufType.F32 => 0, GgufType.F16 => 1, GgufType.Q4_0 => 2, GgufType.Q4_1 => 3, GgufType.Q8_0 => 7, GgufType.Q5_0 => 8, GgufType.Q5_1 => 9,
        GgufType.Q2_K => 10, GgufType.Q3_K => 11, GgufType.Q4_K => 14, GgufType.Q5_K => 16, GgufType.Q6_K => 18, GgufType.IQ4_NL => 25, GgufType.BF16 => 32, GgufType.TQ1_0 => 36, GgufType.TQ2_0 => 37,
        _ => 1024,
    };

    private string Name(string module) => GgufNames.Of(ModelType, module)
        ?? throw new NibbleException(ErrorKind.BadInput, $"{_source.Path}: {module} has no name in GGUF", $"architecture {_architecture} knows no such tensor", "use a model without it");

    private IEnumerable<GgufSpec> Specs()
    {
        foreach (LinearSpec spec in _source.Linears)
        {
            yield return new GgufSpec(Name(spec.WeightName), TypeOf(spec), [spec.Out, spec.In]);
        }

        foreach (TensorSpec spec in _source.Vectors)
        {
            yield return new GgufSpec(Name(spec.Name), GgufType.F32, [.. spec.Shape.ToArray().Select(extent => (long)extent)]);
        }

        foreach ((string name, float[] values) in _computed)
        {
            yield return new GgufSpec(name, GgufType.F32, [values.Length]);
        }
    }

    /// <summary>The type asked for, where the matrix can have it; ternary numbers are for blocks only, as in llama.cpp.</summary>
    private GgufType TypeOf(LinearSpec spec)
    {
        bool ternary = _type is GgufType.TQ1_0 or GgufType.TQ2_0;
        GgufType type = ternary && spec.Role != LinearRole.Block ? GgufType.F16 : _type;
        foreach (GgufType next in new[] { type, GgufType.Q8_0, GgufType.F16 })
        {
            if (spec.In % next.BlockElements() == 0)
            {
                type = next;
                break;
            }
        }

        if (type != _type)
        {
            string why = spec.In % _type.BlockElements() == 0 ? "only matrices of blocks are ternary" : $"rows of {spec.In:N0} are no multiple of {_type.BlockElements()}";
            _notes.Add($"{Name(spec.WeightName)} is {type} instead of {_type}: {why}");
        }

        return type;
    }

    private unsafe void Append(GgufWriter writer, GgufSpec spec, Tensor stored)
    {
        using Tensor floats = stored.To(DType.F32);
        writer.Begin(spec.Name);
        GgufCodec codec = GgufCodec.Require(spec.Type, spec.Name);
        nint columns = (nint)spec.Extents[^1], rows = floats.Shape.Count / columns, rowBytes = (nint)spec.Type.RowBytes(columns);
        ModelFacts facts = _source.Facts;
        int heads = GgufNames.PermutedHeads(_architecture, spec.Name, facts.Heads, facts.KvHeads);
        bool vector = spec.Extents.Count == 1;
        using Tensor bytes = Tensor.OnHost(new Shape(rows * rowBytes), DType.U8);
        bool fits = true;
        float* from = (float*)floats.HostPointer;
        byte* to = bytes.HostPointer;
        if (vector && heads > 0)
        {
            // A bias: its elements are rows.
            for (nint i = 0; i < columns; i++)
            {
                ((float*)to)[GgufNames.StoredRow(i, columns, heads)] = from[i];
            }
        }
        else
        {
            Spread.Over(rows, columns, (first, last) =>
            {
                for (nint row = first; row < last; row++)
                {
                    Span<byte> target = new(to + (GgufNames.StoredRow(row, rows, heads) * rowBytes), (int)rowBytes);
                    if (!codec.Encode(new ReadOnlySpan<float>(from + (row * columns), (int)columns), target))
                    {
                        Volatile.Write(ref fits, false);
                    }
                }
            });
        }

        RequireFit(fits, spec);
        const int piece = 1 << 24;
        for (nint at = 0; at < bytes.ByteLength; at += piece)
        {
            writer.Append(new ReadOnlySpan<byte>(to + at, (int)nint.Min(piece, bytes.ByteLength - at)));
        }
    }

    private static void RequireFit(bool fits, GgufSpec spec)
    {
        if (!fits)
        {
            Throw.BadInput($"tensor '{spec.Name}' has numbers that {spec.Type} cannot hold", "half precision ends at 65,504", "use --type f32 or bf16");
        }
    }

    private GgufMetadataWriter Metadata()
    {
        GgufMetadataWriter data = new();
        data.Text("general.architecture", _architecture);
        data.Text("general.type", "model");
        string name = System.IO.Path.GetFileName(System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(_source.Path)));
        // A folder's name may have a dot in it: Llama-3.2-1B.
        data.Text("general.name", GgufFile.Names(name) ? System.IO.Path.GetFileNameWithoutExtension(name) : name);
        data.U32("general.file_type", FileType(_type));
        data.U32("general.quantization_version", 2);
        ModelFacts facts = _source.Facts;
        data.U32($"{_architecture}.vocab_size", facts.Vocabulary);
        data.U32($"{_architecture}.context_length", facts.Context);
        data.U32($"{_architecture}.embedding_length", facts.Hidden);
        data.U32($"{_architecture}.block_count", facts.Layers);
        data.U32($"{_architecture}.attention.head_count", facts.Heads);
        if (facts.Labels > 0)
        {
            Throw.BadInput($"{_source.Path} is a classifier", "GGUF files of these architectures hold language models", "convert the language model");
        }

        if (ModelType == "gpt2")
        {
            WriteGpt2(data, Gpt2Config.Read(_source.Config));
        }
        else
        {
            WriteLlama(data, LlamaConfig.Read(_source.Config));
        }

        new GgufTokenWriter(data, _source.TokenizerFiles(), _source.Path, facts.Vocabulary).Write(_source.Tokenizer, _source.EosIds);
        return data;
    }

    private void WriteGpt2(GgufMetadataWriter data, Gpt2Config config)
    {
        bool plain = config.Gelu == Backends.GeluKind.Tanh && config.ScaleByHeadDim && !config.ScaleByLayer && !config.HeadBias;
        if (!plain)
        {
            Throw.BadInput($"{_source.Path}: this GPT-2 cannot be written as GGUF", "the format's gpt2 has gelu_new, attention scaled by the head's width, and no bias of the head", "use a model with these settings");
        }

        data.U32("gpt2.feed_forward_length", config.Inner);
        data.F32("gpt2.attention.layer_norm_epsilon", config.Epsilon);
    }

    private void WriteLlama(GgufMetadataWriter data, LlamaConfig config)
    {
        if (config.HeadBias || config.Windows.Any(window => window > 0 && window < config.Positions))
        {
            Throw.BadInput($"{_source.Path}: this model cannot be written as GGUF", "the format's architecture has neither sliding windows nor a bias of the head, so another program would compute something else", "use a model without them");
        }

        data.U32($"{_architecture}.feed_forward_length", config.Inner);
        data.U32($"{_architecture}.attention.head_count_kv", config.KvHeads);
        data.U32($"{_architecture}.attention.key_length", config.HeadDim);
        data.U32($"{_architecture}.attention.value_length", config.HeadDim);
        data.F32($"{_architecture}.attention.layer_norm_rms_epsilon", config.Epsilon);
        data.U32($"{_architecture}.rope.dimension_count", config.HeadDim);
        data.F32($"{_architecture}.rope.freq_base", config.Rope.Theta);
        if (config.Rope.Type == "linear")
        {
            data.Text($"{_architecture}.rope.scaling.type", "linear");
            data.F32($"{_architecture}.rope.scaling.factor", config.Rope.Factor);
        }
        else if (config.Rope.Type == "llama3")
        {
            double[] plain = new RopeSettings(config.Rope.Theta).Frequencies(config.HeadDim), scaled = config.Rope.Frequencies(config.HeadDim);
            _computed["rope_freqs.weight"] = [.. plain.Zip(scaled, (one, other) => (float)(one / other))];
        }
    }
}
