using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Prefix tuning (arXiv 2101.00190): trained keys and values that stand before the tokens in every layer.</summary>
public sealed class PrefixAdapter : PeftAdapter
{
    private const string TensorName = "prompt_embeddings";
    private readonly VirtualTokens _tokens;
    private readonly ModelFacts _facts;
    private readonly string? _baseModel;

    private PrefixAdapter(VirtualTokens tokens, ModelFacts facts, string? baseModel, SavedHead? head, IBackend backend)
        : base(backend, head) => (_tokens, _facts, _baseModel) = (tokens, facts, baseModel);

    private protected override IEnumerable<AdapterTensor> Own => _tokens.Layers.SelectMany((layer, i) => new[]
    {
        new AdapterTensor($"{TensorName}.{i}.key", new Shape(layer.Keys.Out, layer.Keys.In), layer.Keys),
        new AdapterTensor($"{TensorName}.{i}.value", new Shape(layer.Values.Out, layer.Values.In), layer.Values),
    });

    /// <summary>A new prefix: what the keys and values of some tokens of the vocabulary are, chosen by the seed (real activations train better than noise: section 7.4).</summary>
    public static PrefixAdapter Create(CausalModel model, int tokens, string? baseModel, ulong seed)
    {
        using IPackedWeight start = PromptAdapter.SomeTokens(model, tokens, seed);
        return new PrefixAdapter(PromptAdapter.Run(model, start), model.Facts, baseModel, SavedHead.Of(model), model.Backend);
    }

    /// <summary>Numbers that a prefix trains.</summary>
    public static long CountParameters(ModelFacts facts, int tokens) => (long)tokens * facts.Layers * 2 * Width(facts);

    /// <summary>Reads an adapter in PEFT's form.</summary>
    public static PrefixAdapter Load(string folder, JsonConfig json, ModelFacts facts, IBackend backend)
    {
        int tokens = json.GetInt("num_virtual_tokens", min: 1), width = Width(facts);
        using SafetensorsFile file = AdapterFile.Open(folder);
        AdapterFile.Check(file, SavedHead.Specs(json, facts).Append(new TensorSpec(TensorName, new Shape(tokens, 2 * facts.Layers * width))));
        using Tensor values = AdapterFile.Floats(file, TensorName);
        IPackedWeight Columns(int part)
        {
            using Tensor table = Tensor.OnHost(new Shape(tokens, width), DType.F32);
            Ops.CopyColumns.Reference(values, part * width, table);
            return backend.Prepare(table);
        }

        VirtualTokens prefix = new(Enumerable.Range(0, facts.Layers).Select(layer => (Columns(2 * layer), Columns((2 * layer) + 1))));
        return new PrefixAdapter(prefix, facts, json.GetString("base_model_name_or_path", null), SavedHead.Load(json, file, backend), backend);
    }

    /// <inheritdoc/>
    public override void Attach(CausalModel model)
    {
        base.Attach(model);
        model.Virtual = _tokens;
    }

    /// <inheritdoc/>
    public override void AddDelta(LinearSpec linear, Tensor matrix) => RefuseMerge("prefix");

    internal static void RefuseMerge(string kind) => Throw.Usage(
        $"a {kind} can't be merged into a model", "it stands before the tokens; no matrix changes", "use the adapter beside its base");

    private protected override IEnumerable<(string Name, Tensor Tensor)> SavedTensors()
    {
        int width = Width(_facts);
        Tensor whole = Tensor.OnHost(new Shape(_tokens.Count, 2 * _facts.Layers * width), DType.F32);
        int first = 0;
        foreach (AdapterTensor part in Own)
        {
            using Tensor table = part.Read(Backend);
            for (int row = 0; row < _tokens.Count; row++)
            {
                table.Slice(row, 1).HostSpan<float>().CopyTo(whole.Slice(row, 1).HostSpan<float>()[first..]);
            }

            first += width;
        }

        yield return (TensorName, whole);
    }

    private protected override IDictionary<string, object?> ConfigValues() => new Dictionary<string, object?>
    {
        ["base_model_name_or_path"] = _baseModel,
        ["encoder_hidden_size"] = Width(_facts),
        ["init_weights"] = null,
        ["num_attention_heads"] = _facts.KvHeads,
        ["num_layers"] = _facts.Layers,
        ["num_transformer_submodules"] = 1,
        ["num_virtual_tokens"] = _tokens.Count,
        ["peft_type"] = "PREFIX_TUNING",
        ["prefix_projection"] = false,
        ["token_dim"] = Width(_facts),
    };

    private static int Width(ModelFacts facts) => facts.KvHeads * facts.HeadDim;
}
