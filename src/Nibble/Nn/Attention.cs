using Nibble.Backends;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Nn;

/// <summary>
/// Causal attention between the projections: norms of heads, rotary positions, the cache, and the weighted sum. Its parts belong
/// to the model.
/// </summary>
internal sealed record Attention(int Layer, int Heads, int KvHeads, int HeadDim)
{
    /// <summary>Factor on q·k.</summary>
    public float Scale { get; init; } = 1 / MathF.Sqrt(HeadDim);

    /// <summary>Sliding window in slots; 0 sees everything.</summary>
    public int Window { get; init; }

    /// <summary>Rotary positions, or null where positions are embedded.</summary>
    public RopeTable? Rope { get; init; }

    /// <summary>Norm of each query head, or null.</summary>
    public INorm? QueryNorm { get; init; }

    /// <summary>Norm of each key head, or null.</summary>
    public INorm? KeyNorm { get; init; }

    /// <summary>True if a pass needs no cache, and its backend none either.</summary>
    public static bool AttendsRows(in Pass pass) =>
        pass.Training && pass.Activations == DType.BF16 && pass.Cache.Length == 0 && pass.Virtual is null && pass.Backend.Kernels.AttendsRows;

    /// <summary>The same for queries, keys and values side by side in <c>[rows, (heads + 2·kvHeads)·dim]</c>, without rotation and norms of heads.</summary>
    public void ForwardFused(Tensor fused, Tensor output, in Pass pass) => Ops.Attention.Rows(pass.Backend, new RowAttentionArguments(
        fused, 0, fused, Heads * HeadDim, fused, (Heads + KvHeads) * HeadDim, output, Heads, KvHeads, HeadDim, pass.Input.Batch, pass.Input.Length,
        pass.Input.FirstKey, Scale, Window));

    /// <summary>query <c>[rows, heads·dim]</c>, key and value <c>[rows, kvHeads·dim]</c> to output <c>[rows, heads·dim]</c>.</summary>
    public void Forward(Tensor query, Tensor key, Tensor value, Tensor output, in Pass pass)
    {
        if (pass.Cache.Rows is { } rows)
        {
            ForwardEach(rows, query, key, value, output, pass);
            return;
        }

        int start = pass.Cache.Length;
        Tensor q = query.Reshape(new Shape(query.Shape[0], Heads, HeadDim));
        Tensor k = key.Reshape(new Shape(key.Shape[0], KvHeads, HeadDim));
        Tensor v = value.Reshape(new Shape(value.Shape[0], KvHeads, HeadDim));
        QueryNorm?.Forward(q, q, pass);
        KeyNorm?.Forward(k, k, pass);
        // The table covers the whole cache at once: a recorded step can't make it grow.
        int positions = Math.Max(start + pass.Input.Length, pass.Cache.First + pass.Cache.Capacity);
        if (AttendsRows(pass))
        {
            Rope?.Apply(q, positions, pass);
            Rope?.Apply(k, positions, pass);
            Ops.Attention.Rows(pass.Backend, new RowAttentionArguments(
                query, 0, key, 0, value, 0, output, Heads, KvHeads, HeadDim, pass.Input.Batch, pass.Input.Length, pass.Input.FirstKey, Scale, Window));
            return;
        }

        Tensor keys = pass.Cache.Keys(Layer), values = pass.Cache.Values(Layer);
        AttentionArguments arguments = new(q, keys, values, output.Reshape(q.Shape), pass.Input.Batch, pass.Input.Length, start, pass.Input.FirstKey, Scale, Window);
        if (pass.Fused is { } fused && fused.TryAttend(arguments, k, v, Rope?.Arguments(positions, pass)))
        {
            return;
        }

        Rope?.Apply(q, positions, pass);
        Rope?.Apply(k, positions, pass);
        Ops.Attention.Append(pass.Backend, k, keys, start);
        Ops.Attention.Append(pass.Backend, v, values, start);
        pass.Virtual?.Fill(Layer, keys, values, pass);
        Ops.Attention.Forward(pass.Backend, arguments);
    }

    // Rows that have lengths of their own attend one by one, each as it would alone.
    private void ForwardEach(IReadOnlyList<KvCache> rows, Tensor query, Tensor key, Tensor value, Tensor output, in Pass pass)
    {
        for (int row = 0; row < rows.Count; row++)
        {
            ModelInput input = pass.Input with { Positions = pass.Input.Positions.Slice(row, 1), Batch = 1 };
            Forward(query.Slice(row, 1), key.Slice(row, 1), value.Slice(row, 1), output.Slice(row, 1), pass with { Input = input, Cache = rows[row] });
        }
    }
}
