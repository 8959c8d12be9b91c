using Nibble.Backends;
using Nibble.Ops;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Products with dense weights.</summary>
internal static class MatMulChecks
{
    private static readonly DType[] DTypes = [DType.F32, DType.BF16, DType.F16];

    public static IEnumerable<KernelCheck> All
    {
        get
        {
            foreach (DType dtype in DTypes)
            {
                yield return new($"matmul {dtype} odd sizes", b => OddSizes(b, dtype));
                yield return new($"matmul {dtype} NaN and infinity", b => SpecialValues(b, dtype));
                yield return new($"matmul {dtype} batched = single", b => BatchedIsSingle(b, dtype));
                yield return new($"gather {dtype}", b => GatherRows(b, dtype));
            }
        }
    }

    private static void OddSizes(IBackend backend, DType dtype)
    {
        foreach ((int rows, int features, int depth) in new[]
        {
            (0, 5, 7), (1, 1, 1), (1, 130, 257), (2, 17, 3), (3, 63, 64), (4, 65, 255), (5, 16, 256), (6, 33, 300),
            (7, 15, 600), (13, 70, 5), (64, 129, 100), (200, 90, 513), (3, 8, 0), (9, 8, 0),
        })
        {
            foreach (bool biased in new[] { false, true })
            {
                using Tensor x = Random(new Shape(rows, depth), 1, skip: 1), weight = Convert(Random(new Shape(features, depth), 2), dtype);
                using Tensor bias = Random(new Shape(features), 3, skip: 3), y = Empty(new Shape(rows, features), skip: 1);
                using Tensor expected = Empty(y.Shape);
                using IPackedWeight packed = backend.Prepare(weight);
                MatMul.Forward(backend, x, packed, biased ? bias : null, y);
                MatMul.Reference(x, Widen(weight), biased ? bias : null, expected);
                Close(y, expected, 1e-6f * MathF.Sqrt(depth + 10), $"x {x.Shape}, W {weight.Shape}, bias {biased}");
            }
        }
    }

    private static void SpecialValues(IBackend backend, DType dtype)
    {
        foreach (int rows in new[] { 1, 5, 20 })
        {
            using Tensor x = Random(new Shape(rows, 300), 1), values = Random(new Shape(40, 300), 2);
            x.HostSpan<float>()[17] = float.NaN;
            values.HostSpan<float>()[(300 * 3) + 5] = float.PositiveInfinity;
            values.HostSpan<float>()[(300 * 39) + 299] = float.NegativeInfinity;
            using Tensor weight = Convert(values, dtype), y = Empty(new Shape(rows, 40)), expected = Empty(y.Shape);
            using IPackedWeight packed = backend.Prepare(weight);
            MatMul.Forward(backend, x, packed, null, y);
            MatMul.Reference(x, Widen(weight), null, expected);
            Close(y, expected, 2e-5f, $"{rows} rows");
        }
    }

    private static void BatchedIsSingle(IBackend backend, DType dtype)
    {
        using Tensor x = Random(new Shape(23, 600), 1), weight = Convert(Random(new Shape(150, 600), 2), dtype);
        using Tensor bias = Random(new Shape(150), 3), all = Empty(new Shape(23, 150)), some = Empty(all.Shape);
        using IPackedWeight packed = backend.Prepare(weight);
        MatMul.Forward(backend, x, packed, bias, all);
        for (int row = 0, rows = 1; row < 23; row += rows, rows = Math.Min(rows + 1, 23 - row))
        {
            MatMul.Forward(backend, x.Slice(row, rows), packed, bias, some.Slice(row, rows));
        }

        SameProduct(backend, some, all, 2e-5f, "rows in groups of 1, 2, 3 … against all at once");
    }

    private static void GatherRows(IBackend backend, DType dtype)
    {
        using Tensor table = Convert(Random(new Shape(37, 50), 1), dtype), ids = Indices(36, 0, 5, 5, 17);
        using Tensor y = Empty(new Shape(5, 50), skip: 1), expected = Empty(y.Shape);
        using IPackedWeight packed = backend.Prepare(table);
        Gather.Forward(backend, packed, ids, y);
        Gather.Reference(Widen(table), ids, expected);
        Equal(y, expected, "gathered rows");
    }
}
