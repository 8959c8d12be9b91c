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
        new("append to cache", Append),
    ];

    /// <summary>The first key of each query when texts start at all ends but the last.</summary>
    private static IEnumerable<int> Texts(params int[] ends) => ends.Zip(ends.Skip(1)).SelectMany(text => Enumerable.Repeat(text.First, text.Second - text.First));

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
