using Nibble.Backends;
using Nibble.Formats;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// GPT-2 (Radford et al. 2019): learned positions, LayerNorm before attention and MLP, fused c_attn, GELU. Its checkpoints store
/// the four matrices of a block as Conv1D, <c>[in, out]</c>.
/// </summary>
public sealed class Gpt2Architecture : IArchitecture
{
    internal const string Prefix = "transformer.";

    /// <inheritdoc/>
    public IReadOnlyList<string> ModelTypes { get; } = ["gpt2"];

    /// <inheritdoc/>
    public ModelFacts Facts(ModelConfig config) => Gpt2Config.Read(config).Facts;

    /// <inheritdoc/>
    public IReadOnlyList<LinearSpec> Linears(ModelConfig config) => Linears(Gpt2Config.Read(config));

    /// <inheritdoc/>
    public IReadOnlyList<TensorSpec> Vectors(ModelConfig config)
    {
        Gpt2Config gpt = Gpt2Config.Read(config);
        Shape hidden = new(gpt.Hidden);
        List<TensorSpec> vectors = [new(Prefix + "wpe.weight", new Shape(gpt.Positions, gpt.Hidden))];
        string[] norms = [.. Enumerable.Range(0, gpt.Layers).SelectMany(i => new[] { $"h.{i}.ln_1", $"h.{i}.ln_2" }), "ln_f"];
        vectors.AddRange(norms.SelectMany(norm => new[] { ".weight", ".bias" }.Select(end => new TensorSpec(Prefix + norm + end, hidden))));
        vectors.AddRange(Linears(gpt).Where(spec => spec.HasBias).Select(spec => new TensorSpec(spec.BiasName, new Shape(spec.Out))));
        if (gpt.Tied && gpt.HeadBias)
        {
            vectors.Add(new TensorSpec("lm_head.bias", new Shape(gpt.Vocabulary)));
        }

        return vectors;
    }

    /// <inheritdoc/>
    public IReadOnlyList<ActivationFold> Folds(ModelConfig config)
    {
        Gpt2Config gpt = Gpt2Config.Read(config);
        return [.. Enumerable.Range(0, gpt.Layers).SelectMany(i =>
        {
            string path = $"{Prefix}h.{i}.";
            return new ActivationFold[]
            {
                new([path + "attn.c_attn"], path + "ln_1", IsNorm: true) { Channels = gpt.Hidden },
                new([path + "attn.c_proj"], path + "attn.c_attn", IsNorm: false) { Channels = gpt.Hidden, FirstRow = 2 * gpt.Hidden },
                new([path + "mlp.c_fc"], path + "ln_2", IsNorm: true) { Channels = gpt.Hidden },
                new([path + "mlp.c_proj"], path + "mlp.c_fc", IsNorm: false) { Channels = gpt.Inner, Obstacle = "GELU stands between: gelu(x / s) is not gelu(x) / s" },
            };
        })];
    }

    /// <inheritdoc/>
    public string? Sanitize(string tensorName)
    {
        // Causal masks, which old checkpoints carry as buffers.
        if (tensorName.EndsWith(".attn.bias", StringComparison.Ordinal) || tensorName.EndsWith(".attn.masked_bias", StringComparison.Ordinal))
        {
            return null;
        }

        bool inside = tensorName.StartsWith("h.", StringComparison.Ordinal) || tensorName.StartsWith("wte.", StringComparison.Ordinal)
            || tensorName.StartsWith("wpe.", StringComparison.Ordinal) || tensorName.StartsWith("ln_f.", StringComparison.Ordinal);
        return inside ? Prefix + tensorName : tensorName;
    }

    /// <inheritdoc/>
    public CausalModel Build(ModelConfig config, IWeightSource weights, IBackend backend)
    {
        Gpt2Config gpt = Gpt2Config.Read(config);
        using ModelBuilder builder = new(weights, backend, Linears(gpt));
        Block[] blocks = [.. Enumerable.Range(0, gpt.Layers).Select(layer => new Gpt2Block(gpt, layer, builder))];
        LayerNorm finalNorm = builder.LayerNorm(Prefix + "ln_f", gpt.Epsilon);
        IPackedWeight embedding = builder.Linear(Prefix + "wte").Weight;
        ILinear head = gpt switch
        {
            { Labels: > 0 } => builder.Linear("score"),
            { Tied: true } => new PackedLinear("lm_head", embedding, gpt.HeadBias ? builder.Vector("lm_head.bias") : null),
            _ => builder.Linear("lm_head"),
        };
        IPackedWeight positions = builder.Table(Prefix + "wpe.weight");
        return new Gpt2Model(positions, builder.Parts(gpt.Facts, embedding, blocks, finalNorm, head, ModelBuilder.CountParameters(this, config)));
    }

    private static List<LinearSpec> Linears(Gpt2Config gpt)
    {
        List<LinearSpec> specs = [new(Prefix + "wte", gpt.Vocabulary, gpt.Hidden, LinearRole.Embedding)];
        for (int i = 0; i < gpt.Layers; i++)
        {
            LinearSpec Matrix(string name, int outFeatures, int inFeatures) =>
                new($"{Prefix}h.{i}.{name}", outFeatures, inFeatures, LinearRole.Block, StoredTransposed: true, HasBias: true);
            specs.Add(Matrix("attn.c_attn", 3 * gpt.Hidden, gpt.Hidden));
            specs.Add(Matrix("attn.c_proj", gpt.Hidden, gpt.Hidden));
            specs.Add(Matrix("mlp.c_fc", gpt.Inner, gpt.Hidden));
            specs.Add(Matrix("mlp.c_proj", gpt.Hidden, gpt.Inner));
        }

        if (gpt.Labels > 0)
        {
            specs.Add(new("score", gpt.Labels, gpt.Hidden, LinearRole.Classifier));
        }
        else if (!gpt.Tied)
        {
            specs.Add(new("lm_head", gpt.Vocabulary, gpt.Hidden, LinearRole.Head, HasBias: gpt.HeadBias));
        }

        return specs;
    }
}

internal sealed class Gpt2Model(IPackedWeight positions, ModelParts parts) : CausalModel(parts)
{
    protected override string EmbeddingPath => Gpt2Architecture.Prefix + "wte";

    public override void Embed(Tensor hidden, in Pass pass)
    {
        using Workspace.Scope scope = pass.Workspace.Begin();
        Tensor places = pass.Workspace.Rent(hidden.Shape);
        EmbedTokens(hidden, pass);
        Ops.Gather.Forward(pass.Backend, positions, pass.Input.Positions, places);
        Ops.Add.Forward(pass.Backend, places, hidden);
    }
}

internal sealed class Gpt2Block : Block
{
    private readonly GeluKind _gelu;
    private readonly LayerNorm _ln1, _ln2;
    private readonly Attention _attention;

    public Gpt2Block(Gpt2Config gpt, int layer, ModelBuilder builder)
        : base([.. new[] { "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj" }.Select(name => builder.Linear($"{Gpt2Architecture.Prefix}h.{layer}.{name}"))])
    {
        string path = $"{Gpt2Architecture.Prefix}h.{layer}.";
        int dim = gpt.Hidden / gpt.Heads;
        _gelu = gpt.Gelu;
        _ln1 = builder.LayerNorm(path + "ln_1", gpt.Epsilon);
        _ln2 = builder.LayerNorm(path + "ln_2", gpt.Epsilon);
        float scale = gpt.ScaleByHeadDim ? 1 / MathF.Sqrt(dim) : 1;
        _attention = new Attention(layer, gpt.Heads, gpt.Heads, dim) { Scale = gpt.ScaleByLayer ? scale / (layer + 1) : scale };
    }

    private ILinear CAttn => Linears[0];

    private ILinear CProj => Linears[1];

    private ILinear MlpCFc => Linears[2];

    private ILinear MlpCProj => Linears[3];

    public override IReadOnlyList<Range> Inputs { get; } = [0..1, 1..2, 2..3, 3..4];

    // Queries, keys and values.
    public override int MatricesOf(int linear) => linear == 0 ? 3 : 1;

    public override void Forward(Tensor hidden, in Pass pass)
    {
        if (pass.Fused is { } fused && Linears.All(linear => linear is PackedLinear))
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
        Tensor y = pass.Rent(hidden.Shape);
        _ln1.Forward(hidden, x, pass);
        yield return x;
        Attend(x, y, pass);
        yield return y;
        CProj.AddTo(y, x, hidden, pass);
        x = pass.Beside(x);
        _ln2.Forward(hidden, x, pass);
        yield return x;
        Tensor inner = MlpCFc.Rent(x, pass);
        // Training needs both sides of the function again: writing beside is cheaper than the copy that writing over would cost, and than computing it again.
        Tensor active = pass.Training ? pass.Rent(inner.Shape) : inner;
        Ops.Gelu.Forward(pass.Backend, inner, _gelu, active);
        yield return active;
        MlpCProj.AddTo(active, x, hidden, pass, last: true);
    }

    // The same in fewer steps.
    private void ForwardFused(Tensor hidden, IFusedKernels fused, in Pass pass)
    {
        Tensor x = pass.Rent(hidden.Shape);
        using (pass.Workspace.Begin())
        {
            Tensor attended = pass.Rent(hidden.Shape);
            Split(Normed(_ln1, CAttn, hidden, x, fused, pass), hidden.Shape[1], attended, pass);
            CProj.AddTo(attended, x, hidden, fused, pass);
        }

        using (pass.Workspace.Begin())
        {
            Tensor inner = Normed(_ln2, MlpCFc, hidden, x, fused, pass, _gelu);
            MlpCProj.AddTo(inner, x, hidden, fused, pass);
        }
    }

    private static Tensor Normed(INorm norm, ILinear linear, Tensor hidden, Tensor x, IFusedKernels fused, in Pass pass, GeluKind? then = null)
    {
        FusedProduct product = linear.Fused(x, pass);
        if (!fused.TryProject(norm.Input, hidden, [product]))
        {
            norm.Forward(hidden, x, pass);
            if (then is { } kind && fused.TryGelu(x, product, kind))
            {
                return product.Result;
            }

            linear.Forward(x, product.Result, pass);
        }

        if (then is { } gelu)
        {
            Ops.Gelu.Forward(pass.Backend, product.Result, gelu, product.Result);
        }

        return product.Result;
    }

    private void Attend(Tensor x, Tensor output, in Pass pass)
    {
        using Workspace.Scope scope = pass.Workspace.Begin();
        Tensor fused = CAttn.Rent(x, pass);
        if (Attention.AttendsRows(pass))
        {
            _attention.ForwardFused(fused, output, pass);
            return;
        }

        Split(fused, x.Shape[1], output, pass);
    }

    private void Split(Tensor fused, nint width, Tensor output, in Pass pass)
    {
        Tensor query = Columns.Take(fused, 0, width, pass);
        Tensor key = Columns.Take(fused, width, width, pass);
        Tensor value = Columns.Take(fused, 2 * width, width, pass);
        _attention.Forward(query, key, value, output, pass);
    }
}
