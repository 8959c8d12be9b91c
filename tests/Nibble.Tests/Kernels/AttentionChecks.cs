using Nibble.Backends;
using Nibble.Ops;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Attention and the cache.</summary>
internal static class AttentionChecks
{
    public static IEnumerable<KernelCheck> All =>
    [
        new("attention prefill", b => Run(b, new Case(2, 70, 0, 4, 2, 20))),
        new("attention long prefill", b => Run(b, new Case(1, 300, 5, 2, 1, 64))),
        new("attention decode", b => Run(b, new Case(3, 1, 150, 6, 2, 64))),
        new("attention one head of odd size", b => Run(b, new Case(1, 9, 3, 1, 1, 7))),
        new("attention left padding", b => Run(b, new Case(3, 40, 0, 4, 4, 16, FirstKeys: [0, 11, 40]))),
        new("attention left padding decode", b => Run(b, new Case(3, 1, 90, 4, 1, 32, FirstKeys: [0, 11, 90]))),
        new("attention of texts in a row", b => Run(b, new Case(2, 40, 3, 4, 2, 16, FirstKeys: [.. Texts(0, 13, 14, 40), .. Texts(0, 3, 33, 40)]))),
        new("attention of texts in a row with a window", b => Run(b, new Case(1, 200, 0, 2, 2, 24, Window: 33, FirstKeys: [.. Texts(0, 100, 110, 200)]))),
        new("attention of a long context decode", b => Run(b, new Case(2, 1, 1300, 6, 2, 24, FirstKeys: [0, 800]))),
        new("attention of a long context decode, one head", b => Run(b, new Case(1, 1, 1100, 2, 2, 20, Window: 700))),
        new("attention window", b => Run(b, new Case(1, 130, 20, 2, 2, 24, Window: 33))),
        new("attention window decode", b => Run(b, new Case(1, 1, 200, 8, 2, 24, Window: 33))),
        new("attention of large scores", b => Run(b, new Case(1, 20, 0, 2, 2, 32, Size: 40))),
        new("attention of a NaN value", SpoiledValue),
        .. SpoiledTokens.Select(s => new KernelCheck($"attention decode of NaN in {NameOf(s.Slot)}, {s.Start + 1} keys", b => SpoiledToken(b, s.Start, s.Slot))),
        new("append to cache", Append),
    ];

    /// <summary>The first key of each query when texts start at all ends but the last.</summary>
    private static IEnumerable<int> Texts(params int[] ends) => ends.Zip(ends.Skip(1)).SelectMany(text => Enumerable.Repeat(text.First, text.Second - text.First));

    /// <summary>A token's place and the key that has a NaN, or −1 for its query: alone, among others of a block, alone in the last block.</summary>
    public static IEnumerable<(int Start, int Slot)> SpoiledTokens => [(0, 0), (0, -1), (20, 7), (20, 20), (20, -1), (150, 70), (128, 128), (150, -1)];

    /// <summary>Names the place of the NaN.</summary>
    public static string NameOf(int slot) => slot < 0 ? "the query" : $"key {slot}";

    /// <summary>A new token of four heads with the keys and values [slot, 2, dim] of all slots, and what attention should give: heads 2 and 3 are spoiled, or head 3 alone.</summary>
    public static (Tensor Query, Tensor Keys, Tensor Values, Tensor Expected) Spoil(int start, int slot, int dim)
    {
        const int kvHeads = 2;
        Tensor Rounded(int seed, int slots, int heads) => Widen(Convert(Random(new Shape(slots, heads, dim), seed), DType.BF16));
        Tensor query = Rounded(1, 1, 2 * kvHeads), keys = Rounded(2, start + 1, kvHeads), values = Rounded(3, start + 1, kvHeads), expected = Empty(query.Shape);
        (slot < 0 ? query.HostSpan<float>() : keys.HostSpan<float>().Slice(slot * kvHeads * dim, kvHeads * dim))[^3] = float.NaN;
        using Tensor cachedKeys = ByHead(keys), cachedValues = ByHead(values);
        Attention.Reference(new AttentionArguments(query, cachedKeys, cachedValues, expected, 1, 1, start, null, 1 / MathF.Sqrt(dim), 0));
        return (query, keys, values, expected);
    }

    private static Tensor ByHead(Tensor x)
    {
        (int slots, int heads, int dim) = ((int)x.Shape[0], (int)x.Shape[1], (int)x.Shape[2]);
        Tensor cache = Empty(new Shape(1, heads, slots, dim));
        for (int row = 0; row < slots * heads; row++)
        {
            x.HostSpan<float>().Slice(row * dim, dim).CopyTo(cache.HostSpan<float>()[(((row % heads * slots) + (row / heads)) * dim)..]);
        }

        return cache;
    }

    private static void SpoiledToken(IBackend backend, int start, int slot)
    {
        (Tensor query, Tensor keys, Tensor values, Tensor expected) = Spoil(start, slot, 24);
        using Tensor cachedKeys = ByHead(keys), cachedValues = ByHead(values), output = Empty(query.Shape);
        Attention.Forward(backend, new AttentionArguments(query, cachedKeys, cachedValues, output, 1, 1, start, null, 1 / MathF.Sqrt(24), 0));
        Close(output, expected, 2e-5f, "a token with NaN");
        Array.ForEach([query, keys, values, expected], tensor => tensor.Dispose());
    }

    private static void Run(IBackend backend, Case c)
    {
        int capacity = c.Start + c.Length + 6;
        using Tensor query = Random(new Shape(c.Batch * c.Length, c.Heads, c.Dim), 1, c.Size, skip: 1);
        using Tensor keys = Random(new Shape(c.Batch, c.KvHeads, capacity, c.Dim), 2, skip: 1);
        using Tensor values = Random(keys.Shape, 3, skip: 1), output = Random(query.Shape, 4, skip: 1), expected = Empty(query.Shape);
        using Tensor? first = c.FirstKeys is null ? null : Indices(c.FirstKeys);
        AttentionArguments arguments = new(
            query, keys, values, output, c.Batch, c.Length, c.Start, first, 1 / MathF.Sqrt(c.Dim), c.Window);
        Attention.Forward(backend, arguments);
        Attention.Reference(arguments with { Output = expected });
        Close(output, expected, 2e-5f, c.ToString());
    }

    private static void SpoiledValue(IBackend backend)
    {
        using Tensor query = Random(new Shape(5, 2, 8), 1), keys = Random(new Shape(1, 2, 5, 8), 2), values = Random(keys.Shape, 3);
        using Tensor output = Empty(query.Shape), expected = Empty(query.Shape);
        values.HostSpan<float>()[3 * 8] = float.NaN;
        keys.HostSpan<float>()[9 * 8] = float.NaN;
        AttentionArguments arguments = new(query, keys, values, output, 1, 5, 0, null, 1, 0);
        Attention.Forward(backend, arguments);
        Attention.Reference(arguments with { Output = expected });
        Close(output, expected, 1e-5f, "NaN in a value and in a key");
    }

    private static void Append(IBackend backend)
    {
        using Tensor x = Random(new Shape(2 * 3, 2, 5), 1), cache = Empty(new Shape(2, 2, 8, 5));
        Attention.Append(backend, x, cache, 4);
        for (int i = 0; i < 2 * 2 * 8 * 5; i++)
        {
            (int j, int slot, int head, int batch) = (i % 5, i / 5 % 8, i / 40 % 2, i / 80);
            float expected = slot is >= 4 and < 7 ? x.HostSpan<float>()[(((((batch * 3) + slot - 4) * 2) + head) * 5) + j] : 0;
            if (cache.HostSpan<float>()[i] != expected)
            {
                throw new InvalidOperationException($"cache element {i} is {cache.HostSpan<float>()[i]}, expected {expected}");
            }
        }
    }

    private sealed record Case(
        int Batch, int Length, int Start, int Heads, int KvHeads, int Dim, int Window = 0, float Size = 1, int[]? FirstKeys = null);
}
