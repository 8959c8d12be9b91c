using Nibble.Backends;
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

    /// <summary>query <c>[rows, heads·dim]</c>, key and value <c>[rows, kvHeads·dim]</c> to output <c>[rows, heads·dim]</c>.</summary>
    public void Forward(Tensor query, Tensor key, Tensor value, Tensor output, in Pass pass)
    {
        int start = pass.Cache.Length;
        Tensor q = query.Reshape(new Shape(query.Shape[0], Heads, HeadDim));
        Tensor k = key.Reshape(new Shape(key.Shape[0], KvHeads, HeadDim));
        Tensor v = value.Reshape(new Shape(value.Shape[0], KvHeads, HeadDim));
        QueryNorm?.Forward(q, q, pass);
        KeyNorm?.Forward(k, k, pass);
        // The table covers the whole cache at once: a recorded step can't make it grow.
        int positions = Math.Max(start + pass.Input.Length, pass.Cache.First + pass.Cache.Capacity);
        Rope?.Apply(q, positions, pass);
        Rope?.Apply(k, positions, pass);
        Tensor keys = pass.Cache.Keys(Layer), values = pass.Cache.Values(Layer);
        Ops.Attention.Append(pass.Backend, k, keys, start);
        Ops.Attention.Append(pass.Backend, v, values, start);
        pass.Virtual?.Fill(Layer, keys, values, pass);
        Ops.Attention.Forward(pass.Backend, new AttentionArguments(
            q, keys, values, output.Reshape(q.Shape), pass.Input.Batch, pass.Input.Length, start, pass.Input.FirstKey, Scale, Window));
    }
}
