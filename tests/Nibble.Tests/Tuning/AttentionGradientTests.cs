using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Ops;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Tuning;

public class AttentionGradientTests
{
    public static TheoryData<string> Variants => GradientBackends.Names;

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void AttentionOverACacheOfItsOwnTokens(string variant)
    {
        // batch, length, heads, key-value heads, width, window: short, grouped, windowed, longer than a block of queries, odd widths.
        (int Batch, int Length, int Heads, int KvHeads, int Dim, int Window)[] shapes =
            [(1, 2, 1, 1, 1, 0), (2, 5, 2, 2, 8, 0), (1, 7, 4, 2, 3, 0), (2, 20, 2, 1, 16, 6), (1, 60, 2, 2, 12, 0), (1, 110, 1, 1, 32, 0)];
        using IBackend backend = GradientBackends.Open(variant);
        foreach (var s in shapes)
        {
            using GradientCheck check = new(backend);
            Tensor query = check.Input("query", new Shape(s.Batch * s.Length, s.Heads, s.Dim), 1);
            Tensor key = check.Input("key", new Shape(s.Batch * s.Length, s.KvHeads, s.Dim), 2), value = check.Input("value", key.Shape, 3);
            using Tensor output = KernelData.Empty(query.Shape);
            Run(check.Recording, s.Batch, s.Length, s.Window, query, key, value, output);
            check.Run(output, v =>
            {
                Tensor result = KernelData.Empty(query.Shape);
                AttentionArguments arguments = Arguments(s.Batch, s.Length, s.Window, v[0], v[1], v[2], result);
                Attention.Reference(arguments);
                return result;
            });
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void AttentionOfTextsInARowAfterAPrefix(string variant)
    {
        // length, prefix, heads, key-value heads, width, window, and the columns where a row's second and third text start.
        (int Length, int Prefix, int Heads, int KvHeads, int Dim, int Window, int Second, int Third)[] shapes =
            [(60, 4, 2, 1, 12, 0, 7, 41), (3, 1, 1, 1, 1, 0, 1, 2), (9, 2, 4, 2, 3, 0, 4, 5), (24, 5, 2, 2, 16, 7, 8, 20), (33, 3, 1, 1, 33, 0, 16, 17), (110, 1, 2, 1, 8, 0, 50, 100)];
        using IBackend backend = GradientBackends.Open(variant);
        foreach (var s in shapes)
        {
            using Tensor first = KernelData.Indices([.. Enumerable.Range(0, 2 * s.Length).Select(i => i % s.Length).Select(i => i < s.Second ? 0 : (i < s.Third ? s.Second : s.Third) + s.Prefix)]);
            using GradientCheck check = new(backend);
            Tensor query = check.Input("query", new Shape(2 * s.Length, s.Heads, s.Dim), 1), key = check.Input("key", new Shape(2 * s.Length, s.KvHeads, s.Dim), 2);
            Tensor value = check.Input("value", key.Shape, 3), prefix = check.Input("prefix", new Shape(2 * s.Prefix, s.KvHeads, s.Dim), 4);
            using Tensor output = KernelData.Empty(query.Shape);
            Tensor Attend(IBackend device, Tensor[] v, Tensor result)
            {
                Tensor keys = KernelData.Empty(new Shape(2, s.KvHeads, s.Prefix + s.Length, s.Dim)), values = KernelData.Empty(keys.Shape);
                foreach ((Tensor cache, Tensor own) in new[] { (keys, v[1]), (values, v[2]) })
                {
                    Attention.Append(device, own, cache, s.Prefix);
                    Attention.Append(device, v[3], cache, 0);
                }

                AttentionArguments arguments = new(v[0], keys, values, result, 2, s.Length, s.Prefix, first, 0.7f, s.Window);
                if (device == backend)
                {
                    Attention.Reference(arguments);
                }
                else
                {
                    Attention.Forward(device, arguments);
                }

                return result;
            }

            Attend(check.Recording, [query, key, value, prefix], output);
            check.Run(output, v => Attend(backend, v, KernelData.Empty(query.Shape)));
        }
    }

    private static void Run(IBackend backend, int batch, int length, int window, Tensor query, Tensor key, Tensor value, Tensor output)
    {
        Shape cache = new(batch, key.Shape[1], length, key.Shape[2]);
        Tensor keys = KernelData.Empty(cache), values = KernelData.Empty(cache);
        Attention.Append(backend, key, keys, 0);
        Attention.Append(backend, value, values, 0);
        Attention.Forward(backend, new AttentionArguments(query, keys, values, output, batch, length, 0, null, 0.7f, window));
    }

    private static AttentionArguments Arguments(int batch, int length, int window, Tensor query, Tensor key, Tensor value, Tensor output)
    {
        using CpuBackend scalar = new(CpuVariant.All[^1], 1);
        Shape cache = new(batch, key.Shape[1], length, key.Shape[2]);
        Tensor keys = KernelData.Empty(cache), values = KernelData.Empty(cache);
        Attention.Append(scalar, key, keys, 0);
        Attention.Append(scalar, value, values, 0);
        return new AttentionArguments(query, keys, values, output, batch, length, 0, null, 0.7f, window);
    }
}
