using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Quantization;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>What a backend does in one launch against the same in many; for a backend that multiplies in BF16, on its own memory.</summary>
internal static class FusedChecks
{
    private const float Tolerance = 0.01f;

    // Rounded and outlier columns both occur.
    private const string Int8Kind = "llm.int8";
    private const float Int8Threshold = 0.8f;

    public static IReadOnlyList<KernelCheck> All { get; } =
    [
        .. Kinds().SelectMany(kind => new[] { (200, 200), (40, 1160) }.Select(shape => new KernelCheck(
            $"fused products {kind.Name} {shape.Item1}×{shape.Item2}", backend => Products(backend, kind, shape.Item1, shape.Item2)))),
        .. new[] { 3, 9, 40, 70, 140 }.Select(rows => new KernelCheck($"gated products, sum, llm.int8, {rows} rows", backend => GatedSum(backend, rows))),
        new("fused token of one key", b => Token(b, new(1, 0, 2, 2, 64))),
        new("fused token, grouped heads, several parts", b => Token(b, new(2, 150, 4, 2, 128))),
        new("fused token, a narrow head", b => Token(b, new(3, 63, 2, 1, 24))),
        new("fused token, the first key of a part", b => Token(b, new(1, 64, 2, 2, 40))),
        new("fused token, left padding", b => Token(b, new(3, 130, 4, 4, 16, FirstKeys: [0, 100, 130]))),
        new("fused token, a window", b => Token(b, new(1, 200, 2, 1, 64, Window: 33))),
        new("fused token without rotation", b => Token(b, new(2, 70, 2, 2, 64, Rope: false))),
        .. new[] { (1, 0, 2, 64), (2, 150, 4, 128), (3, 70, 2, 24) }.Select(s => new KernelCheck(
            $"a cache of 8 bits, {s.Item2} slots, heads of {s.Item4}", b => Bytes(b, s.Item1, s.Item2, s.Item3, s.Item4))),
        new("fused token of a recorded step", b => Token(b, new(2, 70, 2, 2, 64, Recorded: true))),
        .. new[] { DType.BF16, DType.U8 }.SelectMany(type => AttentionChecks.SpoiledTokens.Select(s => new KernelCheck(
            $"fused token of NaN in {AttentionChecks.NameOf(s.Slot)}, {s.Start + 1} keys in {type}", b => Spoiled(b, type, s.Start, s.Slot)))),
    ];

    private static IEnumerable<PackingKind> Kinds() =>
    [
        new("affine 4 bits, group 64", (o, i, r) => PackingCheckData.Affine(o, i, r, 4, 64, offsets: 'r', dtype: DType.BF16)),
        new("affine 8 bits, group 32", (o, i, r) => PackingCheckData.Affine(o, i, r, 8, 32, dtype: DType.F16)),
        new("codebook, block 32", (o, i, r) => PackingCheckData.Codebook(o, i / 32 * 32, r, 32)),
        new("codebook, block 64, nested", (o, i, r) => PackingCheckData.Codebook(o, i / 64 * 64, r, 64, nested: true)),
        new("dense", null!),
        new(Int8Kind, (o, i, r) => PackingCheckData.Affine(o, i, r, 8, i, offsets: 's')),
    ];

    private static void Products(IBackend backend, PackingKind kind, int outFeatures, int inFeatures)
    {
        IFusedKernels fused = (IFusedKernels)backend.Kernels;
        // The first two may be gated; the third has another number of features.
        int[] outs = [outFeatures, outFeatures, outFeatures + 21];
        IPackedWeight[] weights = [.. outs.Select(o => Pack(backend, kind, o, inFeatures, 3))];
        nint width = weights[0].In;
        Tensor?[] biases = [null, Random(new Shape(outs[1]), 5).Upload(backend), Random(new Shape(outs[2]), 6).Upload(backend)];
        using Tensor weight = Random(new Shape(width), 7).Upload(backend), shift = Random(new Shape(width), 8).Upload(backend);
        InputNorm[] norms = [default, new(NormKind.Rms, weight, null, 1e-5f), new(NormKind.Rms, null, null, 1e-5f), new(NormKind.Layer, weight, shift, 1e-5f)];
        foreach (int rows in new[] { 1, 2, 5, 8, 11 })
        {
            using Tensor x = Random(new Shape(rows, width), rows).Upload(backend), normed = backend.Allocate(x.Shape, DType.F32);
            foreach (InputNorm norm in norms)
            {
                Normalize(backend, norm, x, normed);
                Tensor[] expected = Results(backend, rows, outs), actual = Results(backend, rows, outs);
                FusedProduct[] calls = [.. weights.Select((w, n) => new FusedProduct(w, biases[n], actual[n]))];
                for (int n = 0; n < weights.Length; n++)
                {
                    backend.Kernels.MatMul(normed, weights[n], biases[n], expected[n]);
                }

                // More rows than few are rounded once for all products.
                bool integers = kind.Name == Int8Kind, few = rows <= (norm.Kind == NormKind.None && !integers ? 8 : 2), taken = few || integers;
                Require(fused.TryProject(norm, x, calls) == taken, $"{rows} rows, {norm.Kind}: taken or not");
                if (taken)
                {
                    Same(backend, actual, expected, $"{rows} rows, {norm.Kind}");
                }

                if (few)
                {
                    backend.Kernels.SwiGlu(expected[0], expected[1], expected[0]);
                    Require(fused.TryGate(norm, x, calls[0], calls[1]), "gated products");
                    Same(backend, [actual[0]], [expected[0]], $"{rows} rows, {norm.Kind}, gated");
                }

                Array.ForEach([.. expected, .. actual], tensor => tensor.Dispose());
            }

            Added(backend, fused, x, weights[2], biases[2]!);
        }

        OtherLevels(backend, fused, kind, weights[0]);
        Array.ForEach(weights, w => w.Dispose());
        biases[1]!.Dispose();
        biases[2]!.Dispose();
    }

    // Norm, gate, up, their product, down and sum; beside weights that are not rounded for, and few rows, it is for others.
    private static void GatedSum(IBackend backend, int rows)
    {
        const int Width = 136, Inner = 300;
        IFusedKernels fused = (IFusedKernels)backend.Kernels;
        PackingKind kind = Kinds().Last();
        using IPackedWeight gate = Pack(backend, kind, Inner, Width, 1), up = Pack(backend, kind, Inner, Width, 2), down = Pack(backend, kind, Width + 5, Inner, 3);
        using IPackedWeight other = Pack(backend, Kinds().First(), Width + 5, Inner, 3);
        using Tensor x = Random(new Shape(rows, Width), 4).Upload(backend), normed = backend.Allocate(x.Shape, DType.F32), weight = Random(new Shape(Width), 5).Upload(backend);
        using Tensor bias = Random(new Shape(Width + 5), 6).Upload(backend), hidden = Random(new Shape(rows, Width + 5), 7), actual = hidden.Upload(backend), expected = hidden.Upload(backend);
        foreach (InputNorm norm in new[] { default, new InputNorm(NormKind.Rms, weight, null, 1e-5f), new InputNorm(NormKind.Layer, weight, weight, 1e-5f) })
        {
            Normalize(backend, norm, x, normed);
            Tensor[] both = Results(backend, rows, [Inner, Inner]);
            FusedProduct[] calls = [new(gate, null, both[0]), new(up, null, both[1])];
            Require(!fused.TryGatedAdd(norm, x, calls[0], calls[1], new FusedProduct(other, bias, actual)), "weights of other kinds: taken");
            Require(fused.TryGatedAdd(norm, x, calls[0], calls[1], new FusedProduct(down, bias, actual)), "taken or not");
            backend.Kernels.MatMul(normed, gate, null, both[0]);
            backend.Kernels.MatMul(normed, up, null, both[1]);
            backend.Kernels.SwiGlu(both[0], both[1], both[0]);
            backend.Kernels.MatMulAdd(both[0], down, bias, expected);
            // The same arithmetic in the same order.
            Same(backend, [actual], [expected], $"{norm.Kind}", tolerance: 1e-6f);
            Array.ForEach(both, tensor => tensor.Dispose());
        }
    }

    // One launch has one table of levels.
    private static void OtherLevels(IBackend backend, IFusedKernels fused, PackingKind kind, IPackedWeight weight)
    {
        using IPackedWeight other = Pack(backend, kind, (int)weight.Out, (int)weight.In, 4);
        using Tensor x = Random(new Shape(1, weight.In), 1).Upload(backend), y = backend.Allocate(new Shape(1, weight.Out), DType.F32);
        bool taken = fused.TryProject(default, x, [new FusedProduct(weight, null, y), new FusedProduct(other, null, y)]);
        Require(taken == (weight.Name != "codebook4"), "weights of other levels: taken or not");
    }

    private static void Added(IBackend backend, IFusedKernels fused, Tensor x, IPackedWeight weight, Tensor bias)
    {
        using Tensor host = Random(new Shape(x.Shape.Rows, weight.Out), 9), expected = host.Upload(backend), actual = host.Upload(backend), product = backend.Allocate(host.Shape, DType.F32);
        backend.Kernels.MatMul(x, weight, bias, product);
        backend.Kernels.Add(product, expected);
        Require(fused.TryAdd(x, new FusedProduct(weight, bias, actual)), "added product");
        Same(backend, [actual], [expected], $"{x.Shape.Rows} rows, added");
    }

    private static IPackedWeight Pack(IBackend backend, PackingKind kind, int outFeatures, int inFeatures, int seed)
    {
        if (kind.Make is null)
        {
            using Tensor dense = Convert(Random(new Shape(outFeatures, inFeatures), seed), DType.BF16);
            return backend.Prepare(dense);
        }

        using QuantizedWeight weight = kind.Make(outFeatures, inFeatures, new Random(seed));
        return kind.Name == Int8Kind ? backend.PrepareInt8((AffineWeight)weight, Int8Threshold) : backend.Prepare(weight, ActivationType.F32);
    }

    private static void Normalize(IBackend backend, in InputNorm norm, Tensor x, Tensor y)
    {
        switch (norm.Kind)
        {
            case NormKind.Rms:
                backend.Kernels.RmsNorm(x, norm.Weight, norm.Epsilon, y);
                break;
            case NormKind.Layer:
                backend.Kernels.LayerNorm(x, norm.Weight!, norm.Bias, norm.Epsilon, y);
                break;
            default:
                backend.Gradients.Copy(x, y);
                break;
        }
    }

    private static Tensor[] Results(IBackend backend, int rows, int[] outs) => [.. outs.Select(o => backend.Allocate(new Shape(rows, o), DType.F32))];

    private static void Token(IBackend backend, TokenCase c)
    {
        int capacity = c.Start + 5, seed = 1;
        Shape cache = new(c.Batch, c.KvHeads, capacity, c.Dim);
        Tensor Floats(Shape shape) => Widen(Convert(Random(shape, seed++), DType.BF16)).Upload(backend);
        using Tensor query = Floats(new Shape(c.Batch, c.Heads, c.Dim)), key = Floats(new Shape(c.Batch, c.KvHeads, c.Dim)), value = Floats(key.Shape);
        using Tensor keys = Floats(cache), values = Floats(cache), output = backend.Allocate(query.Shape, DType.F32), expected = backend.Allocate(query.Shape, DType.F32);
        using Tensor halfKeys = backend.Allocate(cache, DType.BF16), halfValues = backend.Allocate(cache, DType.BF16), cached = backend.Allocate(cache, DType.F32);
        using Tensor cos = Floats(new Shape(7, c.Dim / 2)), sin = Floats(cos.Shape), positions = Indices([.. Enumerable.Range(0, c.Batch).Select(i => 6 - i)]).Upload(backend);
        using Tensor? first = c.FirstKeys is null ? null : Indices(c.FirstKeys).Upload(backend);
        backend.Gradients.Copy(keys, halfKeys);
        backend.Gradients.Copy(values, halfValues);
        AttentionArguments arguments = new(query, halfKeys, halfValues, output, c.Batch, 1, c.Start, first, 1 / MathF.Sqrt(c.Dim), c.Window);
        CudaKernels kernels = (CudaKernels)backend.Kernels;
        using Tensor slot = Indices(c.Start).Upload(backend);
        kernels.Slot = c.Recorded ? CudaStorage.AddressOf(slot) : 0;
        try
        {
            // A recorded step was queued when the cache ended elsewhere.
            AttentionArguments recorded = c.Recorded ? arguments with { Start = 1 } : arguments;
            Require(kernels.TryAttend(recorded, key, value, c.Rope ? new RopeArguments(positions, cos, sin) : null), "taken or not");
        }
        finally
        {
            kernels.Slot = 0;
        }

        if (c.Rope)
        {
            backend.Kernels.Rope(query, positions, cos, sin);
            backend.Kernels.Rope(key, positions, cos, sin);
        }

        backend.Kernels.AppendToCache(key, keys, c.Start);
        backend.Kernels.AppendToCache(value, values, c.Start);
        backend.Kernels.Attention(arguments with { Keys = keys, Values = values, Output = expected });
        Same(backend, [output], [expected], "output");
        backend.Gradients.Copy(halfKeys, cached);
        Same(backend, [cached], [keys], "keys of the cache");
        backend.Gradients.Copy(halfValues, cached);
        Same(backend, [cached], [values], "values of the cache");
    }

    // A prompt, then a token, over a cache of 8 bits and over one of F32.
    private static void Bytes(IBackend backend, int batch, int start, int heads, int dim)
    {
        const int prompt = 20, capacity = 200;
        int seed = 1, kvHeads = heads / 2;
        Tensor Floats(params nint[] shape) => Random(new Shape(shape), seed++).Upload(backend);
        using Tensor keys = backend.Allocate(new Shape(batch, kvHeads, capacity, dim), DType.F32), values = backend.Allocate(keys.Shape, DType.F32);
        using Tensor byteKeys = backend.Allocate(new Shape(batch, kvHeads, capacity, dim + sizeof(float)), DType.U8), byteValues = backend.Allocate(byteKeys.Shape, DType.U8);
        float scale = 1 / MathF.Sqrt(dim);
        foreach ((int first, int length) in new[] { (0, start), (start, prompt), (start + prompt, 1) })
        {
            using Tensor query = Floats(batch * length, heads, dim), output = backend.Allocate(query.Shape, DType.F32), expected = backend.Allocate(query.Shape, DType.F32);
            using Tensor key = Floats(batch * length, kvHeads, dim), value = Floats(batch * length, kvHeads, dim);
            if (length == 0)
            {
                continue;
            }

            backend.Kernels.AppendToCache(key, keys, first);
            backend.Kernels.AppendToCache(value, values, first);
            AttentionArguments arguments = new(query, keys, values, expected, batch, length, first, null, scale, 0);
            backend.Kernels.Attention(arguments);
            AttentionArguments bytes = arguments with { Keys = byteKeys, Values = byteValues, Output = output };
            if (length > 1)
            {
                Require(!((IFusedKernels)backend.Kernels).TryAttend(bytes, key, value, null), "many tokens: taken or not");
                backend.Kernels.AppendToCache(key, byteKeys, first);
                backend.Kernels.AppendToCache(value, byteValues, first);
                backend.Kernels.Attention(bytes);
            }
            else
            {
                Require(((IFusedKernels)backend.Kernels).TryAttend(bytes, key, value, null), "one token: taken or not");
            }

            Same(backend, [output], [expected], $"{length} tokens from slot {first} on", 3 * Tolerance);
        }
    }

    private static void Spoiled(IBackend backend, DType type, int start, int slot)
    {
        const int dim = 64;
        (Tensor query, Tensor keys, Tensor values, Tensor expected) = AttentionChecks.Spoil(start, slot, dim);
        Shape cache = new(1, keys.Shape[1], start + 3, dim + (type == DType.U8 ? sizeof(float) : 0));
        using Tensor cachedKeys = backend.Allocate(cache, type), cachedValues = backend.Allocate(cache, type), output = backend.Allocate(query.Shape, DType.F32);
        foreach ((Tensor from, Tensor to) in new[] { (keys, cachedKeys), (values, cachedValues) })
        {
            using Tensor x = from.Upload(backend);
            backend.Kernels.AppendToCache(x, to, 0);
        }

        using Tensor q = query.Upload(backend), key = Last(keys).Upload(backend), value = Last(values).Upload(backend), result = expected.Upload(backend);
        AttentionArguments arguments = new(q, cachedKeys, cachedValues, output, 1, 1, start, null, 1 / MathF.Sqrt(dim), 0);
        Require(((IFusedKernels)backend.Kernels).TryAttend(arguments, key, value, null), "taken or not");
        Same(backend, [output], [result], "output", type == DType.U8 ? 3 * Tolerance : Tolerance);
        Array.ForEach([query, keys, values, expected], tensor => tensor.Dispose());
    }

    private static Tensor Last(Tensor x)
    {
        Tensor last = Empty(new Shape(1, x.Shape[1], x.Shape[2]));
        x.HostSpan<float>()[^(int)last.Shape.Count..].CopyTo(last.HostSpan<float>());
        return last;
    }

    private static void Same(IBackend backend, Tensor[] actual, Tensor[] expected, string what, float tolerance = Tolerance)
    {
        for (int n = 0; n < actual.Length; n++)
        {
            float[] a = new float[actual[n].Shape.Count], e = new float[a.Length];
            backend.Read<float>(actual[n], a);
            backend.Read<float>(expected[n], e);
            double largest = e.Max(Math.Abs);
            for (int i = 0; i < a.Length; i++)
            {
                Require(a[i].Equals(e[i]) || Math.Abs(a[i] - e[i]) <= tolerance * (Math.Abs(e[i]) + (0.2 * largest)), $"{what}: tensor {n}, element {i} of {actual[n].Shape} is {a[i]:R}, expected {e[i]:R}");
            }
        }
    }

    private static void Require(bool holds, string what)
    {
        if (!holds)
        {
            throw new InvalidOperationException(what);
        }
    }

    private sealed record TokenCase(int Batch, int Start, int Heads, int KvHeads, int Dim, int Window = 0, int[]? FirstKeys = null, bool Rope = true, bool Recorded = false);
}
