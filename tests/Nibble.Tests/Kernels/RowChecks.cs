using Nibble.Backends;
using Nibble.Ops;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Kernels that go row by row or element by element.</summary>
internal static class RowChecks
{
    private static readonly (int Rows, int Columns)[] Sizes = [(0, 8), (1, 1), (3, 7), (2, 64), (5, 100), (1, 20001), (70, 257)];

    public static IEnumerable<KernelCheck> All =>
    [
        new("layernorm", LayerNorms),
        new("rmsnorm", RmsNorms),
        new("softmax", Softmaxes),
        new("round rows", RoundedRows),
        new("gelu exact", b => Unary((x, y) => Gelu.Forward(b, x, GeluKind.Exact, y), (x, y) => Gelu.Reference(x, GeluKind.Exact, y))),
        new("gelu tanh", b => Unary((x, y) => Gelu.Forward(b, x, GeluKind.Tanh, y), (x, y) => Gelu.Reference(x, GeluKind.Tanh, y))),
        new("swiglu", b => Binary((x, u, y) => SwiGlu.Forward(b, x, u, y), SwiGlu.Reference)),
        new("squared relu gate", b => Binary((x, u, y) => SquaredReluGate.Forward(b, x, u, y), SquaredReluGate.Reference)),
        new("add", b => Unary((x, y) => Add.Forward(b, x, y), Add.Reference)),
        new("scale columns", ScaledColumns),
        new("rope", Ropes),
        new("log-likelihood", LogLikelihoods),
    ];

    private static void LayerNorms(IBackend backend)
    {
        foreach ((int rows, int columns) in Sizes)
        {
            using Tensor x = Random(new Shape(rows, columns), 1, 3, skip: 1), y = Empty(x.Shape, skip: 3), expected = Empty(x.Shape);
            using Tensor weight = Random(new Shape(columns), 2), bias = Random(new Shape(columns), 3);
            Spoil(x);
            foreach (Tensor? b in new[] { bias, null })
            {
                LayerNorm.Forward(backend, x, weight, b, 1e-5f, y);
                LayerNorm.Reference(x, weight, b, 1e-5f, expected);
                Close(y, expected, 1e-5f, $"x {x.Shape}");
            }
        }
    }

    private static void RmsNorms(IBackend backend)
    {
        foreach ((int rows, int columns) in Sizes)
        {
            using Tensor x = Random(new Shape(rows, columns), 1, 3, skip: 1), expected = Empty(x.Shape), weight = Random(new Shape(columns), 2);
            Spoil(x);
            foreach (Tensor? w in new[] { weight, null })
            {
                RmsNorm.Reference(x, w, 1e-5f, expected);
                using Tensor y = Tensor.From<float>(x.Shape, DType.F32, x.HostSpan<float>());
                RmsNorm.Forward(backend, y, w, 1e-5f, y);
                Close(y, expected, 1e-5f, $"x {x.Shape} in place");
            }
        }
    }

    private static void Softmaxes(IBackend backend)
    {
        foreach ((int rows, int columns) in Sizes)
        {
            using Tensor x = Random(new Shape(rows, columns), 1, 200, skip: 1), expected = Tensor.From<float>(x.Shape, DType.F32, x.HostSpan<float>());
            Softmax.Forward(backend, x);
            Softmax.Reference(expected);
            Close(x, expected, 2e-6f, $"x {x.Shape}");
        }

        using Tensor special = Tensor.From<float>(new Shape(2, 3), DType.F32, [1, float.NegativeInfinity, 2, 1, float.NaN, 2]);
        using Tensor reference = Tensor.From<float>(special.Shape, DType.F32, special.HostSpan<float>());
        Softmax.Forward(backend, special);
        Softmax.Reference(reference);
        Close(special, reference, 1e-6f, "softmax of −∞ and NaN");
    }

    private static void RoundedRows(IBackend backend)
    {
        foreach ((int rows, int columns) in Sizes)
        {
            foreach (float share in new[] { 0, 0.3f, 1 })
            {
                using Tensor x = Random(new Shape(rows, columns), 1, 3, skip: 1), expected = Tensor.From<float>(x.Shape, DType.F32, x.HostSpan<float>());
                RoundRows.Forward(backend, x, share);
                RoundRows.Reference(expected, share);
                Close(x, expected, 1e-6f, $"x {x.Shape}, share {share}");
            }
        }

        using Tensor special = Tensor.From<float>(new Shape(3, 2), DType.F32, [0, 0, 1, float.NaN, float.PositiveInfinity, 1]);
        using Tensor reference = Tensor.From<float>(special.Shape, DType.F32, [0, 0, float.NaN, float.NaN, float.NaN, float.NaN]);
        RoundRows.Forward(backend, special, 1);
        Close(special, reference, 1e-6f, "rows of zeros, with NaN and with infinity");
    }

    private static void Unary(Action<Tensor, Tensor> kernel, Action<Tensor, Tensor> reference) =>
        Binary((x, _, y) => kernel(x, y), (x, _, y) => reference(x, y));

    private static void Binary(Action<Tensor, Tensor, Tensor> kernel, Action<Tensor, Tensor, Tensor> reference)
    {
        foreach ((int rows, int columns) in Sizes)
        {
            using Tensor a = Random(new Shape(rows, columns), 1, 8, skip: 1), b = Random(new Shape(rows, columns), 2, skip: 2);
            using Tensor y = Random(a.Shape, 3, skip: 3), expected = Random(a.Shape, 3);
            Spoil(a);
            kernel(a, b, y);
            reference(a, b, expected);
            Close(y, expected, 1e-6f, $"x {a.Shape}");
        }
    }

    private static void ScaledColumns(IBackend backend)
    {
        foreach ((int rows, int columns) in Sizes)
        {
            using Tensor factor = Random(new Shape(columns), 2), shift = Random(new Shape(columns), 3);
            foreach (Tensor? moved in new[] { shift, null })
            {
                using Tensor x = Random(new Shape(rows, columns), 1, skip: 1), expected = Tensor.From<float>(x.Shape, DType.F32, x.HostSpan<float>());
                ScaleColumns.Forward(backend, x, factor, moved);
                ScaleColumns.Reference(expected, factor, moved);
                Close(x, expected, 1e-6f, $"x {x.Shape}");
            }
        }
    }

    private static void Ropes(IBackend backend)
    {
        foreach ((int heads, int dim) in new[] { (1, 2), (3, 20), (2, 64), (1, 6) })
        {
            using Tensor x = Random(new Shape(4, heads, dim), 1, skip: 1), expected = Tensor.From<float>(x.Shape, DType.F32, x.HostSpan<float>());
            using Tensor cos = Random(new Shape(9, dim / 2), 2), sin = Random(new Shape(9, dim / 2), 3), positions = Indices(0, 8, 3, 3);
            Rope.Forward(backend, x, positions, cos, sin);
            Rope.Reference(expected, positions, cos, sin);
            Close(x, expected, 1e-6f, $"x {x.Shape}");
        }
    }

    private static void LogLikelihoods(IBackend backend)
    {
        foreach ((int rows, int vocabulary) in new[] { (1, 3), (5, 1024), (17, 1025), (4, 2500), (0, 10) })
        {
            using Tensor hidden = Random(new Shape(rows, 40), 1, 3), head = Random(new Shape(vocabulary, 40), 2, 2), bias = Random(new Shape(vocabulary), 3);
            using Tensor targets = Indices([.. Enumerable.Range(0, rows).Select(i => i == 2 ? -1 : i * 977 % vocabulary)]);
            using Tensor actual = Empty(new Shape(rows)), expected = Empty(new Shape(rows)), best = Empty(new Shape(rows), DType.I32);
            using Tensor expectedBest = Empty(new Shape(rows), DType.I32);
            using IPackedWeight packed = backend.Prepare(head);
            using Workspace workspace = new(backend);
            LogLikelihood.Forward(backend, hidden, packed, bias, targets, actual, best, workspace);
            LogLikelihood.Reference(hidden, head, bias, targets, expected, expectedBest);
            Close(actual, expected, 2e-5f, $"{rows} rows, vocabulary {vocabulary}");
            if (!best.HostSpan<int>().SequenceEqual(expectedBest.HostSpan<int>()))
            {
                throw new InvalidOperationException($"most likely tokens differ: {rows} rows, vocabulary {vocabulary}");
            }
        }
    }

    // One row gets a NaN, if there is room: it must come out where the reference has it, and nowhere else.
    private static void Spoil(Tensor x)
    {
        if (x.Shape[0] > 1)
        {
            x.HostSpan<float>()[1] = float.NaN;
        }
    }
}
