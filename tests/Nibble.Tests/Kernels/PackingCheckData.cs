using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Kernels;

/// <summary>A kind of quantized weight, and how to make one of any shape with random codes.</summary>
internal sealed record PackingKind(string Name, Func<int, int, Random, QuantizedWeight> Make)
{
    public override string ToString() => Name;
}

/// <summary>Random quantized weights of every kind.</summary>
internal static class PackingCheckData
{
    // Group sizes: the usual ones, a whole row, and some that words and rows do not respect.
    private static readonly int[] GroupSizes = [32, 64, 128, 96, 48, 100, 1000, 1];

    public static IEnumerable<PackingKind> All => [.. Affine(), .. Codebooks(), .. Ternary()];

    /// <summary>An affine weight; offsets are whole numbers, or real ones, or the middle code.</summary>
    public static AffineWeight Affine(
        int rows, int columns, Random random, int bits, int group, AffineForm form = AffineForm.ZeroPoint,
        GroupOrder order = GroupOrder.AlongRow, bool actOrder = false, char offsets = 'i', DType dtype = DType.F32)
    {
        Tensor codes = Codes(rows, columns, random, 1 << bits);
        int perRow = (columns + group - 1) / group;
        int groups = order switch
        {
            GroupOrder.AlongRow => rows * perRow,
            GroupOrder.Flat => ((rows * columns) + group - 1) / group,
            _ => rows * columns / group,
        };
        float[] scales = Values(groups, () => Round((float)random.NextDouble() + 0.1f, dtype));
        float[] zeros = Values(groups, () => offsets switch
        {
            'i' => random.Next(1 << bits),
            'r' => (float)random.NextDouble() * (1 << bits),
            _ => 1 << (bits - 1),
        });
        int[]? map = actOrder ? [.. Enumerable.Range(0, columns).Select(c => c / group)] : null;
        if (map is not null)
        {
            random.Shuffle(map);
        }

        return new AffineWeight(codes, bits, group, scales, zeros, dtype, form, order, map, symmetric: offsets == 's');
    }

    /// <summary>A weight of 16 random levels, one of them 0; nested: absmax values in 8 bits again.</summary>
    public static CodebookWeight Codebook(int rows, int columns, Random random, int block, bool nested = false, int levels = 16)
    {
        float[] table = Values(levels, () => (2 * (float)random.NextDouble()) - 1);
        table[levels / 2] = 0;
        table[0] = -1;
        int blocks = ((rows * columns) + block - 1) / block;
        if (!nested)
        {
            return new CodebookWeight(Codes(rows, columns, random, levels), table, block, Values(blocks, () => (float)random.NextDouble() + 0.1f));
        }

        byte[] codes = new byte[blocks];
        random.NextBytes(codes);
        NestedScales scales = new(
            codes, Values((blocks + 255) / 256, () => (float)random.NextDouble()), Values(256, () => (float)random.NextDouble()), 0.3f, 256);
        return new CodebookWeight(Codes(rows, columns, random, levels), table, block, scales.Dequantize(), scales);
    }

    private static IEnumerable<PackingKind> Affine()
    {
        foreach (int bits in new[] { 1, 2, 3, 4, 5, 8 })
        {
            foreach (int group in GroupSizes)
            {
                yield return new($"affine {bits} bits, group {group}", (o, i, r) => Affine(o, i, r, bits, group));
            }
        }

        foreach (int bits in new[] { 2, 3, 4, 8 })
        {
            yield return new($"affine {bits} bits, real zeros, F16 scales", (o, i, r) => Affine(o, i, r, bits, 64, offsets: 'r', dtype: DType.F16));
            yield return new($"affine {bits} bits, symmetric, BF16 scales", (o, i, r) => Affine(o, i, r, bits, 32, offsets: 's', dtype: DType.BF16));
            yield return new($"affine {bits} bits, bias", (o, i, r) => Affine(o, i, r, bits, 64, AffineForm.Bias, offsets: 'r'));
            yield return new($"affine {bits} bits, act-order", (o, i, r) => Affine(o, i, r, bits, 32, actOrder: true));
            yield return new($"affine {bits} bits, flat groups", (o, i, r) => Affine(o, i, r, bits, 64, order: GroupOrder.Flat));
            yield return new($"affine {bits} bits, strided groups", (o, i, r) => Affine(o, i, r, bits, 5, order: GroupOrder.Strided));
            yield return new($"affine {bits} bits, symmetric, one group a row", (o, i, r) => Affine(o, i, r, bits, i, offsets: 's'));
        }
    }

    private static IEnumerable<PackingKind> Codebooks()
    {
        foreach (int block in new[] { 32, 64, 128, 100, 4096 })
        {
            yield return new($"codebook, block {block}", (o, i, r) => Codebook(o, i, r, block));
        }

        yield return new("codebook, nested absmax", (o, i, r) => Codebook(o, i, r, 64, nested: true));
        yield return new("codebook, nested absmax, blocks of 32", (o, i, r) => Codebook(o, i, r, 32, nested: true));
        yield return new("codebook of 7 levels", (o, i, r) => Codebook(o, i, r, 64, levels: 7));
    }

    private static IEnumerable<PackingKind> Ternary()
    {
        yield return new("ternary, one scale", (o, i, r) => new TernaryWeight(Codes(o, i, r, 3), [0.37f]));
        yield return new("ternary, scale per row", (o, i, r) =>
            new TernaryWeight(Codes(o, i, r, 3), Values(o, () => Round((float)r.NextDouble(), DType.BF16)), DType.BF16));
    }

    private static Tensor Codes(int rows, int columns, Random random, int limit)
    {
        Tensor codes = Tensor.OnHost(new Shape(rows, columns), DType.U8);
        foreach (ref byte code in codes.HostSpan<byte>())
        {
            code = (byte)random.Next(limit);
        }

        return codes;
    }

    private static float[] Values(int count, Func<float> next) => [.. Enumerable.Range(0, count).Select(_ => next())];

    private static float Round(float value, DType dtype) => dtype switch
    {
        DType.F16 => (float)(Half)value,
        DType.BF16 => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(value) & 0xffff0000),
        _ => value,
    };
}
