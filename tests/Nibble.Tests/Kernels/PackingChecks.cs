using Nibble.Backends;
using Nibble.Ops;
using Nibble.Quantization;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Packings of quantized weights with F32 activations.</summary>
internal static class PackingChecks
{
    // Rows and columns: odd, smaller than a vector or a word, whole panels, rows that groups of 32, 64 and 128 divide or not.
    private static readonly (int Out, int In)[] Shapes = [(1, 1), (3, 20), (17, 64), (33, 100), (64, 128), (70, 515), (130, 384)];

    public static IEnumerable<KernelCheck> All
    {
        get
        {
            foreach (PackingKind kind in PackingCheckData.All)
            {
                yield return new($"packing {kind}", b => Check(b, kind));
            }

            yield return new("packing NaN and infinity in x", SpecialValues);
        }
    }

    private static void Check(IBackend backend, PackingKind kind)
    {
        foreach ((int outs, int ins) in Sizes(Shapes, 3))
        {
            if (kind.Name.Contains("strided", StringComparison.Ordinal) && outs * ins < 5)
            {
                continue;
            }

            using QuantizedWeight weight = kind.Make(outs, ins, new Random((outs * 1000) + ins));
            using IPackedWeight packed = backend.Prepare(weight, ActivationType.F32);
            string what = $"{kind} [{outs}, {ins}]";
            using QuantizedWeight unpacked = packed.Unpack()!;
            Same(unpacked, weight, what);
            using Tensor dense = weight.Dequantize();
            Products(backend, packed, dense, what);
            Rows(backend, packed, dense, what);
        }
    }

    private static void Products(IBackend backend, IPackedWeight packed, Tensor dense, string what)
    {
        using IPackedWeight densePacked = backend.Prepare(dense);
        (int outs, int ins) = ((int)dense.Shape[0], (int)dense.Shape[1]);
        using Tensor bias = Random(new Shape(outs), 3, skip: 1);
        float largest = 1 + dense.HostSpan<float>().ToArray().Max(MathF.Abs);
        foreach (int rows in Sizes([0, 1, 2, 3, 5, 8, 9, 40], 3, 6))
        {
            Tensor? b = rows % 2 == 0 ? null : bias;
            using Tensor x = Random(new Shape(rows, ins), rows, skip: 1), y = Empty(new Shape(rows, outs), skip: 1);
            using Tensor expected = Empty(y.Shape), reference = Empty(y.Shape);
            MatMul.Forward(backend, x, packed, b, y);
            MatMul.Forward(backend, x, densePacked, b, expected);
            SameProduct(backend, y, expected, 2e-6f * largest * MathF.Sqrt(ins + 10), $"{what}, {rows} rows, against the dense product of the same values");
            MatMul.Reference(x, dense, b, reference);
            Close(y, reference, 1e-6f * largest * MathF.Sqrt(ins + 10), $"{what}, {rows} rows, against the definition");
        }
    }

    private static void Rows(IBackend backend, IPackedWeight packed, Tensor dense, string what)
    {
        int last = (int)dense.Shape[0] - 1;
        using Tensor ids = Indices(last, 0, last / 2), y = Empty(new Shape(3, dense.Shape[1]), skip: 1), expected = Empty(y.Shape);
        Gather.Forward(backend, packed, ids, y);
        Gather.Reference(dense, ids, expected);
        Equal(y, expected, $"{what}, gathered rows");
    }

    private static void SpecialValues(IBackend backend)
    {
        foreach (float special in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            using QuantizedWeight weight = PackingCheckData.Affine(40, 300, new Random(1), 4, 64, offsets: 'r');
            using Tensor x = Random(new Shape(9, 300), 1), y = Empty(new Shape(9, 40)), expected = Empty(y.Shape), dense = weight.Dequantize();
            x.HostSpan<float>()[17] = special;
            x.HostSpan<float>()[(5 * 300) + 299] = special;
            using IPackedWeight packed = backend.Prepare(weight, ActivationType.F32);
            MatMul.Forward(backend, x, packed, null, y);
            MatMul.Reference(x, dense, null, expected);
            Close(y, expected, 5e-4f, $"{special} in x");
        }
    }

    /// <summary>Throws unless both weights hold the same codes, numbers and settings.</summary>
    private static void Same(QuantizedWeight actual, QuantizedWeight expected, string what)
    {
        Require(actual.Codes.HostSpan<byte>().SequenceEqual(expected.Codes.HostSpan<byte>()), "codes", what);
        Require(actual.StoredBits == expected.StoredBits && actual.Bits == expected.Bits, "bits", what);
        switch (expected)
        {
            case AffineWeight e when actual is AffineWeight a:
                Require(a.Scales.SequenceEqual(e.Scales) && a.Offsets.SequenceEqual(e.Offsets), "scales or offsets", what);
                Require(
                    (a.GroupSize, a.ScaleDType, a.Form, a.Order, a.Symmetric) == (e.GroupSize, e.ScaleDType, e.Form, e.Order, e.Symmetric)
                    && (a.ColumnGroups ?? []).SequenceEqual(e.ColumnGroups ?? []),
                    "settings",
                    what);
                break;
            case CodebookWeight e when actual is CodebookWeight a:
                Require(
                    a.Levels.SequenceEqual(e.Levels) && a.Absmax.SequenceEqual(e.Absmax) && a.BlockSize == e.BlockSize && SameNested(a.Nested, e.Nested),
                    "levels, absmax or nested form",
                    what);
                break;
            case TernaryWeight e when actual is TernaryWeight a:
                Require(a.Scales.SequenceEqual(e.Scales) && a.ScaleDType == e.ScaleDType, "scales", what);
                break;
            default:
                throw new InvalidOperationException($"{what}: unpacked to a {actual.GetType().Name}");
        }
    }

    // A packing makes the scales anew from what it keeps.
    private static bool SameNested(NestedScales? a, NestedScales? e) => (a is null) == (e is null) && (e is null || (
        a!.Codes.AsSpan().SequenceEqual(e.Codes) && a.BlockScales.AsSpan().SequenceEqual(e.BlockScales) && a.Map.AsSpan().SequenceEqual(e.Map) && (a.Offset, a.BlockSize) == (e.Offset, e.BlockSize)));

    private static void Require(bool holds, string part, string what)
    {
        if (!holds)
        {
            throw new InvalidOperationException($"{what}: the unpacked weight has other {part}");
        }
    }
}
