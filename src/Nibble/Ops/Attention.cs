using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>Causal scaled dot-product attention (arXiv 1706.03762, eq. 1) with grouped heads over a key-value cache.</summary>
public static class Attention
{
    /// <summary>Copies new keys or values <c>[batch·length, kvHeads, dim]</c> into a cache <c>[batch, kvHeads, capacity, dim]</c> from slot <paramref name="start"/> on.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Append(IBackend backend, Tensor x, Tensor cache, int start)
    {
        Check.Float("append to cache", "x", x, backend);
        Check.Cache("append to cache", "cache", cache, backend);
        Shape c = cache.Shape;
        if (x.Shape.Rank != 3 || c.Rank != 4 || x.Shape[1] != c[1] || x.Shape[2] != KvCacheTypes.HeadDim(cache) || c[0] == 0 || x.Shape[0] % c[0] != 0
            || start < 0 || start + (x.Shape[0] / c[0]) > c[2])
        {
            Throw.Argument("append to cache", $"x {x.Shape} ([batch·length, heads, dim]) from slot {start} on does not fit in the cache {c} ([batch, heads, capacity, dim])");
        }

        backend.Kernels.AppendToCache(x, cache, start);
    }

    /// <summary>Attends; see <see cref="AttentionArguments"/>.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, in AttentionArguments a)
    {
        Check.Float("attention", "query", a.Query, backend);
        Check.Cache("attention", "keys", a.Keys, backend);
        Check.Same("attention", "query", a.Query, "output", a.Output);
        Check.Same("attention", "keys", a.Keys, "values", a.Values);
        Check.Indices("attention", "first key", a.FirstKey, a.HasFirstKeyOfQueries ? (nint)a.Batch * a.Length : a.Batch);
        (Shape q, Shape k) = (a.Query.Shape, a.Keys.Shape);
        if (q.Rank != 3 || k.Rank != 4 || q[0] != (nint)a.Batch * a.Length || k[0] != a.Batch || k[1] == 0 || q[1] % k[1] != 0 || q[2] != KvCacheTypes.HeadDim(a.Keys)
            || a.Start < 0 || a.Start + a.Length > k[2] || a.Window < 0)
        {
            Throw.Argument(
                "attention",
                $"query {q} ([batch·length, heads, dim]) and keys {k} ([batch, kvHeads, capacity, dim]) do not fit batch {a.Batch}, length {a.Length}, start {a.Start}, window {a.Window}");
        }

        backend.Kernels.Attention(a);
    }

    /// <summary>Whole rows among themselves; see <see cref="RowAttentionArguments"/>.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Rows(IBackend backend, in RowAttentionArguments a)
    {
        nint rows = (nint)a.Batch * a.Length, own = (nint)a.Heads * a.HeadDim, shared = (nint)a.KvHeads * a.HeadDim;
        bool Holds(Tensor x, nint column, nint count) => x.DType == DType.BF16 && x.Shape.Rows == rows && column >= 0 && column + count <= x.Shape.Columns;
        Check.Indices("attention", "first key", a.FirstKey, rows);
        if (!Holds(a.Query, a.QueryColumn, own) || !Holds(a.Keys, a.KeyColumn, shared) || !Holds(a.Values, a.ValueColumn, shared) || !Holds(a.Output, 0, own)
            || a.Keys.Shape.Columns != a.Values.Shape.Columns || a.KvHeads == 0 || a.Heads % a.KvHeads != 0 || a.Window < 0)
        {
            Throw.Argument(
                "attention",
                $"query {a.Query.Shape}, keys {a.Keys.Shape}, values {a.Values.Shape} and output {a.Output.Shape} do not fit batch {a.Batch}, length {a.Length}, heads {a.Heads}/{a.KvHeads} of {a.HeadDim}");
        }

        backend.Kernels.AttendRows(a);
    }

    /// <summary>The definition, in double precision; a query that sees no key gets zeros.</summary>
    internal static void Reference(in AttentionArguments a)
    {
        (int heads, int dim) = ((int)a.Query.Shape[1], (int)a.Query.Shape[2]);
        (int kvHeads, int capacity) = ((int)a.Keys.Shape[1], (int)a.Keys.Shape[2]);
        for (int row = 0; row < a.Batch * a.Length * heads; row++)
        {
            (int head, int token, int batch) = (row % heads, row / heads % a.Length, row / heads / a.Length);
            int last = a.Start + token;
            int first = a.FirstKey is null ? 0 : a.FirstKey.HostSpan<int>()[a.HasFirstKeyOfQueries ? row / heads : batch];
            first = a.Window > 0 ? Math.Max(first, last - a.Window + 1) : first;
            int cache = ((batch * kvHeads) + (head / (heads / kvHeads))) * capacity;
            AttendOne(a, row * dim, (cache + first) * dim, Math.Max(0, last - first + 1), dim);
        }
    }

    private static void AttendOne(in AttentionArguments a, int query, int firstKey, int count, int dim)
    {
        ReadOnlySpan<float> q = a.Query.HostSpan<float>().Slice(query, dim);
        ReadOnlySpan<float> keys = a.Keys.HostSpan<float>(), values = a.Values.HostSpan<float>();
        double[] weights = new double[count];
        for (int i = 0; i < count; i++)
        {
            for (int j = 0; j < dim; j++)
            {
                weights[i] += (double)q[j] * keys[firstKey + (i * dim) + j] * a.Scale;
            }
        }

        double largest = weights.DefaultIfEmpty(0).Max();
        double sum = weights.Sum(w => Math.Exp(w - largest));
        for (int j = 0; j < dim; j++)
        {
            double value = 0;
            for (int i = 0; i < count; i++)
            {
                value += Math.Exp(weights[i] - largest) / sum * values[firstKey + (i * dim) + j];
            }

            a.Output.HostSpan<float>()[query + j] = (float)value;
        }
    }
}
