using Nibble.Backends;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>One kind of weight that the benches of packings compare; Make is null for the dense F32 matrix beside them.</summary>
internal sealed record WeightKind(string Name, Func<nint, nint, QuantizedWeight>? Make)
{
    /// <summary>All kinds, the dense one first.</summary>
    public static WeightKind[] All { get; } =
    [
        new("f32", null),
        new("affine8 row", (o, i) => Affine(o, i, 8, (int)i, symmetric: true)),
        new("affine8 g64", (o, i) => Affine(o, i, 8, 64)),
        new("affine4 g64", (o, i) => Affine(o, i, 4, 64)),
        new("affine4 g128 symmetric", (o, i) => Affine(o, i, 4, 128, symmetric: true)),
        new("affine4 g32", (o, i) => Affine(o, i, 4, 32)),
        new("affine3 g64", (o, i) => Affine(o, i, 3, 64)),
        new("affine2 g64", (o, i) => Affine(o, i, 2, 64)),
        new("nf4 b64", (o, i) => Codebook(o, i, nested: false)),
        new("nf4 b64 nested", (o, i) => Codebook(o, i, nested: true)),
        new("ternary", (o, i) => new TernaryWeight(Codes(o, i, 3), [0.02f])),
    ];

    /// <summary>Packs the weight, or random F32 numbers.</summary>
    public IPackedWeight Pack(IBackend backend, nint outs, nint ins, ActivationType activations)
    {
        if (Make is null)
        {
            using Tensor dense = Tensor.OnHost(new Shape(outs, ins), DType.F32);
            Fill(dense);
            return backend.Prepare(dense);
        }

        using QuantizedWeight weight = Make(outs, ins);
        return backend.Prepare(weight, activations);
    }

    /// <summary>Reproducible numbers in −1 … 1.</summary>
    public static void Fill(Tensor tensor)
    {
        Random random = new(1);
        foreach (ref float value in tensor.HostSpan<float>())
        {
            value = (2 * random.NextSingle()) - 1;
        }
    }

    // As most layouts store them: scales in F16, whole zero points.
    private static AffineWeight Affine(nint outs, nint ins, int bits, int group, bool symmetric = false)
    {
        int groups = (int)(outs * ((ins + group - 1) / group));
        Random random = new(1);
        float[] scales = [.. Enumerable.Range(0, groups).Select(_ => (float)(Half)(random.NextDouble() * 0.01))];
        float[] offsets = [.. Enumerable.Range(0, groups).Select(_ => symmetric ? 1 << (bits - 1) : (float)random.Next(1 << bits))];
        return new AffineWeight(Codes(outs, ins, 1 << bits), bits, group, scales, offsets, DType.F16, symmetric: symmetric);
    }

    private static CodebookWeight Codebook(nint outs, nint ins, bool nested)
    {
        int blocks = (int)(outs * ins / 64);
        Random random = new(1);
        float[] levels = [.. Enumerable.Range(0, 16).Select(c => (c - 7.5f) / 7.5f)];
        NestedScales scales = new(
            new byte[blocks], [.. Enumerable.Range(0, (blocks + 255) / 256).Select(_ => random.NextSingle())],
            [.. Enumerable.Range(0, 256).Select(_ => random.NextSingle())], 0.1f, 256);
        random.NextBytes(scales.Codes);
        return nested
            ? new CodebookWeight(Codes(outs, ins, 16), levels, 64, scales.Dequantize(), scales)
            : new CodebookWeight(Codes(outs, ins, 16), levels, 64, [.. Enumerable.Range(0, blocks).Select(_ => random.NextSingle())]);
    }

    private static Tensor Codes(nint outs, nint ins, int limit)
    {
        Tensor codes = Tensor.OnHost(new Shape(outs, ins), DType.U8);
        Random random = new(1);
        random.NextBytes(codes.HostSpan<byte>());
        foreach (ref byte code in codes.HostSpan<byte>())
        {
            code = (byte)(code * limit >> 8);
        }

        return codes;
    }
}
