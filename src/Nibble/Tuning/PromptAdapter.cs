using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Prompt tuning (arXiv 2104.08691): trained embeddings that stand before the tokens. In training they go through the model with the
/// tokens; otherwise their keys and values are computed once and stand in the cache.
/// </summary>
public sealed class PromptAdapter : PeftAdapter
{
    private const string TensorName = "prompt_embeddings";
    private readonly IPackedWeight _table;
    private readonly ModelFacts _facts;
    private readonly string? _baseModel;
    private CausalModel? _model;
    private VirtualTokens? _tokens;

    private PromptAdapter(IPackedWeight table, ModelFacts facts, string? baseModel, SavedHead? head, IBackend backend)
        : base(backend, head) => (_table, _facts, _baseModel) = (table, facts, baseModel);

    internal override IPackedWeight? Prompt => _table;

    private protected override IEnumerable<AdapterTensor> Own => [new AdapterTensor(TensorName, new Shape(_table.Out, _table.In), _table)];

    /// <summary>A new prompt: the embeddings of some tokens of the vocabulary, chosen by the seed.</summary>
    public static PromptAdapter Create(CausalModel model, int tokens, string? baseModel, ulong seed) =>
        new(SomeTokens(model, tokens, seed), model.Facts, baseModel, SavedHead.Of(model), model.Backend);

    /// <summary>Reads an adapter in PEFT's form.</summary>
    public static PromptAdapter Load(string folder, JsonConfig json, ModelFacts facts, IBackend backend)
    {
        int tokens = json.GetInt("num_virtual_tokens", min: 1);
        using SafetensorsFile file = AdapterFile.Open(folder);
        AdapterFile.Check(file, SavedHead.Specs(json, facts).Append(new TensorSpec(TensorName, new Shape(tokens, facts.Hidden))));
        using Tensor values = AdapterFile.Floats(file, TensorName);
        return new PromptAdapter(backend.Prepare(values), facts, json.GetString("base_model_name_or_path", null), SavedHead.Load(json, file, backend), backend);
    }

    /// <inheritdoc/>
    public override void Attach(CausalModel model)
    {
        base.Attach(model);
        _model = model;
        Refresh();
    }

    /// <inheritdoc/>
    public override void Refresh()
    {
        if (_model is null)
        {
            return;
        }

        VirtualTokens? old = _tokens;
        _model.Virtual = null;
        _model.Virtual = _tokens = Run(_model, _table);
        old?.Dispose();
    }

    /// <inheritdoc/>
    public override void AddDelta(LinearSpec linear, Tensor matrix) => PrefixAdapter.RefuseMerge("tuned prompt");

    /// <inheritdoc/>
    public override void Dispose()
    {
        base.Dispose();
        _tokens?.Dispose();
    }

    /// <summary>Embeddings of tokens chosen by the seed, as F32.</summary>
    internal static IPackedWeight SomeTokens(CausalModel model, int tokens, ulong seed)
    {
        int[] ids = [.. Enumerable.Range(0, tokens).Select(i => (int)(CounterRandom.Bits(seed, (ulong)i) % (ulong)model.Facts.Vocabulary))];
        using Tensor chosen = TokenBatch.Upload(model.Backend, ids), rows = model.Backend.Allocate(new Shape(tokens, model.Facts.Hidden), DType.F32);
        model.Backend.Kernels.Gather(model.Weights.First().Weight, chosen, rows);
        using Tensor host = Tensor.OnHost(rows.Shape, DType.F32);
        model.Backend.Read<float>(rows, host.HostSpan<float>());
        return model.Backend.Prepare(host);
    }

    /// <summary>The keys and values that embeddings get in every layer when they come first.</summary>
    internal static VirtualTokens Run(CausalModel model, IPackedWeight embeddings)
    {
        int count = (int)embeddings.Out;
        IBackend backend = model.Backend;
        using Workspace workspace = new(backend);
        // In F32 whatever caches of the model hold: these are the numbers that training starts from.
        using KvCache cache = new(model, 1, count, model.Virtual?.Count ?? 0);
        using Tensor ids = TokenBatch.Upload(backend, new int[count]), places = TokenBatch.Upload(backend, [.. Enumerable.Range(0, count)]);
        Pass pass = new(backend, workspace, new ModelInput(ids, places, 1, count), cache) { Prompt = new PromptRows(embeddings, places) };
        model.Forward(pass, CausalModel.RunBlock);
        backend.Synchronize();
        return new VirtualTokens(Enumerable.Range(0, model.Facts.Layers).Select(layer => (Table(backend, cache.Keys(layer)), Table(backend, cache.Values(layer)))));
    }

    private protected override IDictionary<string, object?> ConfigValues() => new Dictionary<string, object?>
    {
        ["base_model_name_or_path"] = _baseModel,
        ["num_attention_heads"] = _facts.Heads,
        ["num_layers"] = _facts.Layers,
        ["num_transformer_submodules"] = 1,
        ["num_virtual_tokens"] = (int)_table.Out,
        ["peft_type"] = "PROMPT_TUNING",
        ["prompt_tuning_init"] = "RANDOM",
        ["prompt_tuning_init_text"] = null,
        ["token_dim"] = _facts.Hidden,
        ["tokenizer_kwargs"] = null,
        ["tokenizer_name_or_path"] = null,
    };

    /// <summary>A cache of one row <c>[1, heads, slots, dim]</c> as a table <c>[slots, heads·dim]</c>.</summary>
    private static IPackedWeight Table(IBackend backend, Tensor cache)
    {
        (int heads, int slots, int dim) = ((int)cache.Shape[1], (int)cache.Shape[2], (int)cache.Shape[3]);
        float[] values = new float[cache.Shape.Count];
        backend.Read<float>(cache, values);
        using Tensor table = Tensor.OnHost(new Shape(slots, heads * dim), DType.F32);
        for (int head = 0; head < heads; head++)
        {
            for (int slot = 0; slot < slots; slot++)
            {
                values.AsSpan(((head * slots) + slot) * dim, dim).CopyTo(table.Slice(slot, 1).HostSpan<float>()[(head * dim)..]);
            }
        }

        return backend.Prepare(table);
    }
}
