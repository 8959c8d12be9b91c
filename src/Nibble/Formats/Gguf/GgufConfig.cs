using System.Text.Json;
using Nibble.IO;
using Nibble.Nn;

namespace Nibble.Formats;

/// <summary>The <c>config.json</c> that a GGUF file's metadata amounts to.</summary>
internal sealed class GgufConfig
{
    private static readonly Dictionary<string, string> Classes = new()
    {
        ["llama"] = "LlamaForCausalLM", ["qwen2"] = "Qwen2ForCausalLM", ["qwen3"] = "Qwen3ForCausalLM", ["gpt2"] = "GPT2LMHeadModel",
    };

    private readonly GgufFile _file;
    private readonly GgufMetadata _data;

    private GgufConfig(GgufFile file)
    {
        (_file, _data) = (file, file.Metadata);
        Architecture = _data.Text("general.architecture");
    }

    /// <summary>GGUF architectures that can be run.</summary>
    public static IEnumerable<string> Architectures => Classes.Keys;

    private string Architecture { get; }

    /// <summary>True if the file's architecture is one that Nibble runs.</summary>
    public static bool IsKnown(GgufFile file) => file.Metadata["general.architecture"] is { Kind: GgufKind.String } value && Classes.ContainsKey(value.Text());

    /// <summary>The config of a model.</summary>
    public static ModelConfig Of(GgufFile file) => ModelConfig.Parse(Json(file, null), file.Path);

    /// <summary>The document; <paramref name="dtype"/> goes into it if it is not null.</summary>
    public static byte[] Json(GgufFile file, string? dtype)
    {
        GgufConfig config = new(file);
        if (!Classes.ContainsKey(config.Architecture))
        {
            Throw.BadInput(
                $"{file.Path}: architecture '{config.Architecture}' is not supported",
                $"supported are {string.Join(", ", Classes.Keys)}",
                "use a model of one of these architectures, or its Hugging Face folder");
        }

        return JsonBytes.Of(json => config.Write(json, dtype));
    }

    private void Write(Utf8JsonWriter json, string? dtype)
    {
        json.WriteStartArray("architectures");
        json.WriteStringValue(Classes[Architecture]);
        json.WriteEndArray();
        json.WriteString("model_type", Architecture);
        json.WriteNumber("vocab_size", Vocabulary());
        json.WriteBoolean("tie_word_embeddings", _file.Find("output.weight") == null);
        if (dtype != null)
        {
            json.WriteString("dtype", dtype);
        }

        WriteRole(json, "bos_token_id", "bos");
        WriteEos(json);
        WriteRole(json, "pad_token_id", "padding");
        if (Architecture == "gpt2")
        {
            WriteGpt2(json);
        }
        else
        {
            WriteLlama(json);
        }
    }

    private int Vocabulary()
    {
        GgufTensor? embedding = _file.Find("token_embd.weight");
        if (embedding is not { Extents.Count: 2 } || embedding.Extents[0] > int.MaxValue)
        {
            Throw.BadInput($"{_file.Path}: token_embd.weight is missing or no matrix", "a model cannot be built without it", "the file may be one part of a split model: merge the parts first");
        }

        return (int)embedding.Extents[0];
    }

    private int Size(string key, int? fallback = null) => _data.Int($"{Architecture}.{key}", fallback, 1);

    private void WriteGpt2(Utf8JsonWriter json)
    {
        json.WriteNumber("n_positions", Size("context_length"));
        json.WriteNumber("n_embd", Size("embedding_length"));
        json.WriteNumber("n_layer", Size("block_count"));
        json.WriteNumber("n_head", Size("attention.head_count"));
        json.WriteNumber("n_inner", Size("feed_forward_length"));
        json.WriteNumber("layer_norm_epsilon", Short(_data.Number("gpt2.attention.layer_norm_epsilon", 1e-5)));
        json.WriteString("activation_function", "gelu_new");
    }

    private void WriteLlama(Utf8JsonWriter json)
    {
        int hidden = Size("embedding_length"), heads = Size("attention.head_count");
        int width = Size("attention.key_length", Math.Max(1, hidden / heads));
        json.WriteString("hidden_act", "silu");
        json.WriteNumber("hidden_size", hidden);
        json.WriteNumber("intermediate_size", Size("feed_forward_length"));
        json.WriteNumber("num_hidden_layers", Size("block_count"));
        json.WriteNumber("num_attention_heads", heads);
        json.WriteNumber("num_key_value_heads", Size("attention.head_count_kv", heads));
        json.WriteNumber("head_dim", width);
        json.WriteNumber("max_position_embeddings", Size("context_length"));
        json.WriteNumber("rms_norm_eps", Short(_data.Number($"{Architecture}.attention.layer_norm_rms_epsilon", 1e-5)));
        if (Architecture == "llama")
        {
            json.WriteBoolean("attention_bias", _file.Find("blk.0.attn_q.bias") != null);
            json.WriteBoolean("mlp_bias", _file.Find("blk.0.ffn_up.bias") != null);
        }

        RequireWholeHeads(width);
        WriteRope(json, width);
    }

    private void RequireWholeHeads(int width)
    {
        foreach (string key in new[] { "rope.dimension_count", "attention.value_length" })
        {
            if (Size(key, width) != width)
            {
                _data[$"{Architecture}.{key}"]!.Refuse($"only models with heads of one width ({width}) that are rotated as a whole are supported");
            }
        }

        if (_data.Has($"{Architecture}.expert_count") && _data.Int($"{Architecture}.expert_count") > 0)
        {
            _data[$"{Architecture}.expert_count"]!.Refuse("models with experts are not supported");
        }
    }

    private void WriteRope(Utf8JsonWriter json, int width)
    {
        double theta = Short(_data.Number($"{Architecture}.rope.freq_base", 10000));
        double factor = Stretch();
        string type = _data.Text($"{Architecture}.rope.scaling.type", "linear");
        json.WriteNumber("rope_theta", theta);
        if (_file.Find("rope_freqs.weight") is { } factors)
        {
            WriteLlama3(json, factors, theta, width);
        }
        else if (type == "linear" && factor != 1)
        {
            json.WriteStartObject("rope_scaling");
            json.WriteString("rope_type", "linear");
            json.WriteNumber("factor", factor);
            json.WriteEndObject();
        }
        else if (type is not ("none" or "linear"))
        {
            _data[$"{Architecture}.rope.scaling.type"]!.Refuse("supported are none and linear, and LLaMA-3's rope_freqs.weight");
        }
    }

    /// <summary>By how much positions are stretched: an older key holds it too, and 0 stands for 1, as the reference implementation reads them.</summary>
    private double Stretch()
    {
        double factor = Short(_data.Number($"{Architecture}.rope.scaling.factor", _data.Number($"{Architecture}.rope.scale_linear", 0)));
        return factor == 0 ? 1 : factor;
    }

    /// <summary>The file has LLaMA-3's factors per frequency but not the four numbers that they come from; the usual ones are tried.</summary>
    private void WriteLlama3(Utf8JsonWriter json, GgufTensor tensor, double theta, int width)
    {
        using Tensors.Tensor loaded = _file.Load(tensor.Name);
        using Tensors.Tensor floats = Tensors.TensorConvert.To(loaded, Tensors.DType.F32);
        float[] factors = floats.HostSpan<float>().ToArray();
        RopeSettings settings = new(theta, "llama3", factors.Max(), 1, 4, 8192);
        double[] plain = new RopeSettings(theta).Frequencies(width), scaled = settings.Frequencies(width);
        if (factors.Length != width / 2 || factors.Where((factor, j) => Math.Abs((plain[j] / scaled[j]) - factor) > 1e-4 * factor).Any())
        {
            Throw.BadInput($"{_file.Path}: the position scaling of rope_freqs.weight is not supported", "it is not LLaMA-3's with the context of 8,192 and the factors 1 and 4", "use the model's Hugging Face folder");
        }

        json.WriteStartObject("rope_scaling");
        json.WriteString("rope_type", "llama3");
        json.WriteNumber("factor", settings.Factor);
        json.WriteNumber("low_freq_factor", settings.LowFrequencyFactor);
        json.WriteNumber("high_freq_factor", settings.HighFrequencyFactor);
        json.WriteNumber("original_max_position_embeddings", settings.OriginalContext);
        json.WriteEndObject();
    }

    private void WriteRole(Utf8JsonWriter json, string key, string role)
    {
        if (GgufTokens.Role(_data, role) is int id)
        {
            json.WriteNumber(key, id);
        }
    }

    private void WriteEos(Utf8JsonWriter json)
    {
        int[] ids = [.. new[] { "eos", "eot", "eom" }.Select(role => GgufTokens.Role(_data, role)).OfType<int>().Distinct()];
        if (ids.Length > 0)
        {
            json.WriteStartArray("eos_token_id");
            Array.ForEach(ids, json.WriteNumberValue);
            json.WriteEndArray();
        }
    }

    /// <summary>1e-5 stored as F32 reads 9.99999974737875e-06; the shortest decimal with the same F32 is what was meant.</summary>
    private static double Short(double value) => double.Parse(((float)value).ToString("R", System.Globalization.CultureInfo.InvariantCulture), System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>JSON documents in memory.</summary>
internal static class JsonBytes
{
    /// <summary>An object whose members <paramref name="write"/> writes.</summary>
    public static byte[] Of(Action<Utf8JsonWriter> write)
    {
        using MemoryStream buffer = new();
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Indented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        return buffer.ToArray();
    }
}
