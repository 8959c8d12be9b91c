using Nibble.Backends;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// Keys and values that stand before the tokens of every row: a tuned prefix, or what a tuned prompt becomes in each layer. They take
/// the first slots of a cache and the first positions; keys are kept as attention reads them, with their rotation if there is one.
/// </summary>
internal sealed class VirtualTokens : IDisposable
{
    private readonly (IPackedWeight Keys, IPackedWeight Values)[] _layers;

    /// <summary>Takes the tables of all layers, each <c>[tokens, kvHeads·headDim]</c>, which it then owns.</summary>
    public VirtualTokens(IEnumerable<(IPackedWeight Keys, IPackedWeight Values)> layers) => _layers = [.. layers];

    /// <summary>Tokens.</summary>
    public int Count => (int)_layers[0].Keys.Out;

    /// <summary>The tables, layer by layer.</summary>
    public IReadOnlyList<(IPackedWeight Keys, IPackedWeight Values)> Layers => _layers;

    /// <summary>Bytes of all tables.</summary>
    public long ByteLength => _layers.Sum(layer => (long)layer.Keys.ByteLength + layer.Values.ByteLength);

    /// <summary>True where they stand before all tokens of a pass already: it has none of the first tokens of a row.</summary>
    public bool Stand(in Pass pass) => pass.Cache.Length - Count > (pass.Input.Starts?.Max() ?? 0);

    /// <summary>
    /// Writes a layer's keys and values into the cache, in the first pass of its rows. Left padding stands between them and the
    /// tokens, so they then move up to the tokens: the padding before them is hidden as without them.
    /// </summary>
    public void Fill(int layer, Tensor keys, Tensor values, in Pass pass)
    {
        using Workspace.Scope scope = pass.Workspace.Begin();
        int done = pass.Cache.Length - Count;
        if (pass.Input.Starts is not { } starts)
        {
            if (done == 0)
            {
                Append(_layers[layer].Keys, keys, pass.Input.Batch, 0, pass);
                Append(_layers[layer].Values, values, pass.Input.Batch, 0, pass);
            }

            return;
        }

        for (int row = 0; row < starts.Length; row++)
        {
            // Padding of a later pass overwrites them again.
            if (done <= starts[row])
            {
                Append(_layers[layer].Keys, keys.Slice(row, 1), 1, starts[row], pass);
                Append(_layers[layer].Values, values.Slice(row, 1), 1, starts[row], pass);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach ((IPackedWeight keys, IPackedWeight values) in _layers)
        {
            keys.Dispose();
            values.Dispose();
        }
    }

    private void Append(IPackedWeight table, Tensor cache, int batch, int start, in Pass pass)
    {
        Tensor ids = pass.Workspace.Rent(new Shape(batch * Count), DType.I32);
        Tensor rows = pass.Workspace.Rent(new Shape(batch * Count, table.In));
        pass.Backend.Write<int>([.. Enumerable.Range(0, batch * Count).Select(i => i % Count)], ids);
        Ops.Gather.Forward(pass.Backend, table, ids, rows);
        Ops.Attention.Append(pass.Backend, rows.Reshape(new Shape(rows.Shape[0], cache.Shape[1], table.In / cache.Shape[1])), cache, start);
    }
}

/// <summary>Embeddings that stand in the place of some tokens of a pass: a prompt that is being tuned.</summary>
/// <param name="Table">The embeddings <c>[tokens, hidden]</c>.</param>
/// <param name="Ids">I32 <c>[batch·length]</c>: the row of the table, or −1 where a token stands.</param>
internal readonly record struct PromptRows(IPackedWeight Table, Tensor Ids);
