using Nibble.Backends;
using Nibble.Formats;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// The LLaMA family (arXiv 2302.13971) and its relatives: rotary positions, RMSNorm, grouped key and value heads (arXiv
/// 2305.13245), SwiGLU. Also BitNet b1.58 (arXiv 2402.17764), whose blocks only differ in norms and in how products are computed.
/// </summary>
public sealed class LlamaArchitecture : IArchitecture
{
    /// <inheritdoc/>
    public IReadOnlyList<string> ModelTypes { get; } = ["llama", "mistral", "qwen2", "qwen3", "bitllama", "bitnet"];

    /// <inheritdoc/>
    public ModelFacts Facts(ModelConfig config) => LlamaConfig.Read(config).Facts;

    /// <inheritdoc/>
    public IReadOnlyList<LinearSpec> Linears(ModelConfig config) => Linears(LlamaConfig.Read(config));

    /// <inheritdoc/>
    public IReadOnlyList<TensorSpec> Vectors(ModelConfig config)
    {
        LlamaConfig llama = LlamaConfig.Read(config);
        List<TensorSpec> vectors = [];
        for (int i = 0; i < llama.Layers; i++)
        {
            vectors.AddRange(BlockNorms(llama).Select(norm => new TensorSpec($"model.layers.{i}.{norm.Name}.weight", new Shape(norm.Width))));
        }

        vectors.Add(new TensorSpec("model.norm.weight", new Shape(llama.Hidden)));
        vectors.AddRange(Linears(llama).Where(spec => spec.HasBias).Select(spec => new TensorSpec(spec.BiasName, new Shape(spec.Out))));
        if (llama.Tied && llama.HeadBias)
        {
            vectors.Add(new TensorSpec("lm_head.bias", new Shape(llama.Vocabulary)));
        }

        return vectors;
    }

    /// <inheritdoc/>
    public IReadOnlyList<ActivationFold> Folds(ModelConfig config)
    {
        LlamaConfig llama = LlamaConfig.Read(config);
        // The norms of BitNet's layers undo any factor.
        return llama.BitLlama || llama.BitNet ? [] : [.. Enumerable.Range(0, llama.Layers).SelectMany(layer =>
        {
            string path = $"model.layers.{layer}.", attention = path + "self_attn.", mlp = path + "mlp.";
            return new ActivationFold[]
            {
                new([attention + "q_proj", attention + "k_proj", attention + "v_proj"], path + "input_layernorm", IsNorm: true) { Channels = llama.Hidden },
                new([attention + "o_proj"], attention + "v_proj", IsNorm: false)
                {
                    Channels = llama.KvHeads * llama.HeadDim, HeadDim = llama.HeadDim, Repeats = llama.Heads / llama.KvHeads,
                },
                new([mlp + "gate_proj", mlp + "up_proj"], path + "post_attention_layernorm", IsNorm: true) { Channels = llama.Hidden },
                new([mlp + "down_proj"], mlp + "up_proj", IsNorm: false) { Channels = llama.Inner },
            };
        })];
    }

    /// <inheritdoc/>
    public string? Sanitize(string tensorName)
    {
        if (tensorName.EndsWith("rotary_emb.inv_freq", StringComparison.Ordinal))
        {
            return null;
        }

        // A base model saved without its head lacks the prefix.
        bool inside = tensorName.StartsWith("layers.", StringComparison.Ordinal) || tensorName.StartsWith("embed_tokens.", StringComparison.Ordinal)
            || tensorName.StartsWith("norm.", StringComparison.Ordinal);
        return inside ? "model." + tensorName : tensorName;
    }

    /// <inheritdoc/>
    public CausalModel Build(ModelConfig config, IWeightSource weights, IBackend backend)
    {
        LlamaConfig llama = LlamaConfig.Read(config);
        using ModelBuilder builder = new(weights, backend, Linears(llama));
        RopeTable rope = builder.Rope(llama.Rope, llama.HeadDim);
        Block[] blocks = [.. Enumerable.Range(0, llama.Layers).Select(layer => new LlamaBlock(llama, layer, rope, builder))];
        RmsNorm finalNorm = builder.RmsNorm("model.norm", llama.Epsilon);
        IPackedWeight embedding = builder.Linear("model.embed_tokens").Weight;
        ILinear head = llama switch
        {
            { Labels: > 0 } => builder.Linear("score"),
            { Tied: true } => new PackedLinear("lm_head", embedding, llama.HeadBias ? builder.Vector("lm_head.bias") : null),
            _ => builder.Linear("lm_head"),
        };
        return new LlamaModel(builder.Parts(llama.Facts, embedding, blocks, finalNorm, head, ModelBuilder.CountParameters(this, config)));
    }

    private static List<LinearSpec> Linears(LlamaConfig llama)
    {
        int query = llama.Heads * llama.HeadDim, key = llama.KvHeads * llama.HeadDim;
        List<LinearSpec> specs = [new("model.embed_tokens", llama.Vocabulary, llama.Hidden, LinearRole.Embedding)];
        for (int i = 0; i < llama.Layers; i++)
        {
            LinearSpec Matrix(string name, int outFeatures, int inFeatures, bool bias) =>
                new($"model.layers.{i}.{name}", outFeatures, inFeatures, LinearRole.Block, HasBias: bias, Ternary: llama.BitLlama || llama.BitNet);
            specs.Add(Matrix("self_attn.q_proj", query, llama.Hidden, llama.QkvBias));
            specs.Add(Matrix("self_attn.k_proj", key, llama.Hidden, llama.QkvBias));
            specs.Add(Matrix("self_attn.v_proj", key, llama.Hidden, llama.QkvBias));
            specs.Add(Matrix("self_attn.o_proj", llama.Hidden, query, llama.OutputBias));
            specs.Add(Matrix("mlp.gate_proj", llama.Inner, llama.Hidden, llama.MlpBias));
            specs.Add(Matrix("mlp.up_proj", llama.Inner, llama.Hidden, llama.MlpBias));
            specs.Add(Matrix("mlp.down_proj", llama.Hidden, llama.Inner, llama.MlpBias));
        }

        if (llama.Labels > 0)
        {
            specs.Add(new("score", llama.Labels, llama.Hidden, LinearRole.Classifier));
        }
        else if (!llama.Tied)
        {
            specs.Add(new("lm_head", llama.Vocabulary, llama.Hidden, LinearRole.Head, HasBias: llama.HeadBias));
        }

        return specs;
    }

    /// <summary>Norms with weights inside a block.</summary>
    private static IEnumerable<(string Name, int Width)> BlockNorms(LlamaConfig llama)
    {
        if (llama.BitLlama)
        {
            yield break;
        }

        yield return ("input_layernorm", llama.Hidden);
        yield return ("post_attention_layernorm", llama.Hidden);
        if (llama.QkNorm)
        {
            yield return ("self_attn.q_norm", llama.HeadDim);
            yield return ("self_attn.k_norm", llama.HeadDim);
        }

        if (llama.BitNet)
        {
            yield return ("self_attn.attn_sub_norm", llama.Heads * llama.HeadDim);
            yield return ("mlp.ffn_sub_norm", llama.Inner);
        }
    }
}

internal sealed class LlamaModel(ModelParts parts) : CausalModel(parts)
{
    protected override string EmbeddingPath => "model.embed_tokens";

    public override void Embed(Tensor hidden, in Pass pass) => EmbedTokens(hidden, pass);
}

internal sealed class LlamaBlock : Block
{
    private readonly INorm _inputNorm, _postAttentionNorm;
    private readonly INorm? _attentionSubNorm, _mlpSubNorm;
    private readonly Attention _attention;
    private readonly bool _squaredRelu;

    public LlamaBlock(LlamaConfig llama, int layer, RopeTable rope, ModelBuilder builder)
        : base([.. Names.Select(name => builder.Linear($"model.layers.{layer}.{name}"))])
    {
        string path = $"model.layers.{layer}.";
        RmsNorm Norm(string name) => builder.RmsNorm(path + name, llama.Epsilon);
        RmsNorm? Plain(int width) => llama.BitLlama ? builder.InputNorm(width) : null;
        _inputNorm = Plain(llama.Hidden) ?? Norm("input_layernorm");
        _postAttentionNorm = Plain(llama.Hidden) ?? Norm("post_attention_layernorm");
        _attentionSubNorm = llama.BitNet ? Norm("self_attn.attn_sub_norm") : Plain(llama.Heads * llama.HeadDim);
        _mlpSubNorm = llama.BitNet ? Norm("mlp.ffn_sub_norm") : Plain(llama.Inner);
        _squaredRelu = llama.BitNet;
        _attention = new Attention(layer, llama.Heads, llama.KvHeads, llama.HeadDim)
        {
            Rope = rope,
            Window = llama.Windows[layer],
            QueryNorm = llama.QkNorm ? Norm("self_attn.q_norm") : null,
            KeyNorm = llama.QkNorm ? Norm("self_attn.k_norm") : null,
        };
    }

    private static string[] Names { get; } =
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

    private ILinear QProj => Linears[0];

    private ILinear KProj => Linears[1];

    private ILinear VProj => Linears[2];

    private ILinear OProj => Linears[3];

    private ILinear GateProj => Linears[4];

    private ILinear UpProj => Linears[5];

    private ILinear DownProj => Linears[6];

    public override IReadOnlyList<Range> Inputs { get; } = [0..3, 3..4, 4..6, 6..7];

    public override void Forward(Tensor hidden, in Pass pass)
    {
        if (pass.Fused is { } fused && _attentionSubNorm is null && _mlpSubNorm is null && Linears.All(linear => linear is PackedLinear))
        {
            ForwardFused(hidden, fused, pass);
        }
        else
        {
            base.Forward(hidden, pass);
        }
    }

    public override IEnumerable<Tensor> Steps(Tensor hidden, Pass pass)
    {
        using Workspace.Scope? scratch = pass.BeginScratch();
        Tensor x = pass.Rent(hidden.Shape);
        _inputNorm.Forward(hidden, x, pass);
        yield return x;
        using (pass.Workspace.Begin())
        {
            Tensor attended = Attend(x, pass);
            yield return attended;
            OProj.AddTo(attended, x, hidden, pass);
        }

        x = pass.Beside(x);
        _postAttentionNorm.Forward(hidden, x, pass);
        yield return x;
        using (pass.Workspace.Begin())
        {
            Tensor inner = Inner(x, pass);
            yield return inner;
            DownProj.AddTo(inner, x, hidden, pass, last: true);
        }
    }

    // The same in fewer steps.
    private void ForwardFused(Tensor hidden, IFusedKernels fused, in Pass pass)
    {
        Tensor x = pass.Rent(hidden.Shape);
        using (pass.Workspace.Begin())
        {
            FusedProduct query = QProj.Fused(x, pass), key = KProj.Fused(x, pass), value = VProj.Fused(x, pass);
            Tensor attended = pass.Rent(query.Result.Shape);
            if (!fused.TryProject(_inputNorm.Input, hidden, [query, key, value]))
            {
                _inputNorm.Forward(hidden, x, pass);
                if (!fused.TryProject(default, x, [query, key, value]))
                {
                    Multiply(x, [query, key, value], pass);
                }
            }

            _attention.Forward(query.Result, key.Result, value.Result, attended, pass);
            OProj.AddTo(attended, x, hidden, fused, pass);
        }

        using (pass.Workspace.Begin())
        {
            FusedProduct gate = GateProj.Fused(x, pass), up = UpProj.Fused(x, pass);
            if (fused.TryGatedAdd(_postAttentionNorm.Input, hidden, gate, up, new FusedProduct(DownProj.Weight, DownProj.Bias, hidden)))
            {
                return;
            }

            if (!fused.TryGate(_postAttentionNorm.Input, hidden, gate, up))
            {
                _postAttentionNorm.Forward(hidden, x, pass);
                if (!fused.TryGate(default, x, gate, up))
                {
                    Multiply(x, [gate, up], pass);
                    Ops.SwiGlu.Forward(pass.Backend, gate.Result, up.Result, gate.Result);
                }
            }

            DownProj.AddTo(gate.Result, x, hidden, fused, pass);
        }
    }

    private static void Multiply(Tensor x, ReadOnlySpan<FusedProduct> products, in Pass pass)
    {
        foreach (FusedProduct product in products)
        {
            Ops.MatMul.Forward(pass.Backend, x, product.Weight, product.Bias, product.Result);
        }
    }

    private Tensor Attend(Tensor x, in Pass pass)
    {
        Tensor query = QProj.Rent(x, pass);
        Tensor output = pass.Rent(query.Shape);
        Tensor key = KProj.Rent(x, pass);
        Tensor value = VProj.Rent(x, pass);
        _attention.Forward(query, key, value, output, pass);
        _attentionSubNorm?.Forward(output, output, pass);
        return output;
    }

    private Tensor Inner(Tensor x, in Pass pass)
    {
        Tensor gate = GateProj.Rent(x, pass);
        Tensor up = UpProj.Rent(x, pass);
        Tensor inner = pass.Beside(gate);
        if (_squaredRelu)
        {
            Ops.SquaredReluGate.Forward(pass.Backend, gate, up, inner);
        }
        else
        {
            Ops.SwiGlu.Forward(pass.Backend, gate, up, inner);
        }

        _mlpSubNorm?.Forward(inner, inner, pass);
        return inner;
    }
}
