using Nibble.Backends;
using Nibble.Ops;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Tuning;

/// <summary>Every op's gradient against central differences, for every variant of the kernels.</summary>
public class GradientTests
{
    private static readonly (int Rows, int Columns)[] Shapes = [(1, 2), (2, 3), (5, 16), (3, 17), (70, 33), (4, 130)];

    // rows, in, out: on both sides of tiles (6), panels (2 to 32) and blocks (128, 256, 288).
    private static readonly (int Rows, int In, int Out)[] Products = [(2, 1, 1), (1, 5, 3), (7, 16, 16), (13, 33, 17), (300, 20, 140), (5, 140, 270)];

    public static TheoryData<string> Variants => GradientBackends.Names;

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void MatrixProducts(string variant)
    {
        ForAll(variant, Products, (check, shape) =>
        {
            Tensor x = check.Input("x", new Shape(shape.Rows, shape.In), 1);
            IPackedWeight w = check.Matrix("w", shape.Out, shape.In, 2);
            Tensor bias = check.Vector("bias", shape.Out, 3), y = KernelData.Empty(new Shape(shape.Rows, shape.Out));
            MatMul.Forward(check.Recording, x, w, bias, y);
            check.Run(y, v => Into(y.Shape, result => MatMul.Reference(v[0], v[1], v[2], result)));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void AddedProducts(string variant)
    {
        ForAll(variant, Products, (check, shape) =>
        {
            Tensor x = check.Input("x", new Shape(shape.Rows, shape.In), 1), y = check.Input("y", new Shape(shape.Rows, shape.Out), 4);
            IPackedWeight w = check.Matrix("w", shape.Out, shape.In, 2);
            LowRank.Add(check.Recording, x, w, y);
            check.Run(y, v => Into(y.Shape, result =>
            {
                MatMul.Reference(v[0], v[2], null, result);
                Add.Reference(v[1], result);
            }));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void ScaledColumns(string variant)
    {
        ForAll(variant, Shapes, (check, shape) =>
        {
            Tensor x = check.Input("x", new Shape(shape.Rows, shape.Columns), 1), factor = check.Vector("factor", shape.Columns, 2), shift = check.Vector("shift", shape.Columns, 3);
            ScaleColumns.Forward(check.Recording, x, factor, shift);
            check.Run(x, v => Into(x.Shape, result =>
            {
                v[0].HostSpan<float>().CopyTo(result.HostSpan<float>());
                ScaleColumns.Reference(result, v[1], v[2]);
            }));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void EmbeddingsInSomePlaces(string variant)
    {
        ForAll(variant, Shapes, (check, shape) =>
        {
            IPackedWeight all = check.Matrix("all", 9, shape.Columns, 1), some = check.Matrix("some", 5, shape.Columns, 2);
            using Tensor ids = KernelData.Indices([.. Enumerable.Range(0, shape.Rows).Select(i => i % 2 == 0 ? 3 : -1)]), y = KernelData.Empty(new Shape(shape.Rows, shape.Columns));
            using Tensor others = KernelData.Indices([.. Enumerable.Range(0, shape.Rows).Select(i => i % 2 == 0 ? -1 : i % 5)]);
            Gather.Some(check.Recording, all, ids, y);
            Gather.Some(check.Recording, some, others, y);
            check.Run(y, v => Into(y.Shape, result =>
            {
                for (int row = 0; row < shape.Rows; row++)
                {
                    (row % 2 == 0 ? v[0].Slice(3, 1) : v[1].Slice(row % 5, 1)).HostSpan<float>().CopyTo(result.Slice(row, 1).HostSpan<float>());
                }
            }));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void Embeddings(string variant)
    {
        ForAll(variant, Shapes, (check, shape) =>
        {
            IPackedWeight table = check.Matrix("table", 9, shape.Columns, 1);
            using Tensor ids = KernelData.Indices([.. Enumerable.Range(0, shape.Rows).Select(i => i * 5 % 7)]), y = KernelData.Empty(new Shape(shape.Rows, shape.Columns));
            Gather.Forward(check.Recording, table, ids, y);
            check.Run(y, v => Into(y.Shape, result => Gather.Reference(v[0], ids, result)));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void LayerNorms(string variant)
    {
        // Two columns: normed values are ±1 up to ε, and differences of such a step function say nothing.
        ForAll(variant, Shapes.Skip(1).Append((Rows: 6, Columns: 64)), (check, shape) =>
        {
            Tensor x = check.Input("x", new Shape(shape.Rows, shape.Columns), 1), y = KernelData.Empty(new Shape(shape.Rows, shape.Columns));
            Tensor weight = check.Vector("weight", shape.Columns, 2), bias = check.Vector("bias", shape.Columns, 3);
            LayerNorm.Forward(check.Recording, x, weight, bias, 0.1f, y);
            check.Run(y, v => Into(y.Shape, result => LayerNorm.Reference(v[0], v[1], v[2], 0.1f, result)));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void RmsNormsInPlace(string variant)
    {
        ForAll(variant, Shapes, (check, shape) =>
        {
            Tensor x = check.Input("x", new Shape(shape.Rows, shape.Columns), 1), weight = check.Vector("weight", shape.Columns, 2);
            RmsNorm.Forward(check.Recording, x, weight, 0.1f, x);
            check.Run(x, v => Into(x.Shape, result => RmsNorm.Reference(v[0], v[1], 0.1f, result)));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void CrossEntropies(string variant)
    {
        using IBackend backend = GradientBackends.Open(variant);
        foreach ((int rows, int columns) in Shapes)
        {
            const float scale = 0.3f;
            using Tensor start = KernelData.Random(new Shape(rows, columns), 1, scale: 3), gradient = KernelData.Widen(start), losses = KernelData.Empty(new Shape(rows));
            // Every third row is not scored.
            int[] targets = [.. Enumerable.Range(0, rows).Select(row => row % 3 == 1 ? -1 : row * 5 % columns)];
            using Tensor ids = KernelData.Indices(targets);
            backend.Gradients.CrossEntropy(gradient, ids, scale, losses);
            for (int row = 0; row < rows; row++)
            {
                double[] logits = [.. start.Slice(row, 1).HostSpan<float>().ToArray().Select(value => (double)value)];
                double Loss() => targets[row] < 0 ? 0 : Math.Log(logits.Sum(Math.Exp)) - logits[targets[row]];
                Assert.Equal(Loss(), losses.HostSpan<float>()[row], 1e-5 * (1 + Loss()));
                for (int column = 0; column < columns; column += 1 + (columns / 24))
                {
                    const double step = 1e-4;
                    double middle = logits[column];
                    logits[column] = middle + step;
                    double above = Loss();
                    logits[column] = middle - step;
                    double expected = scale * (above - Loss()) / (2 * step);
                    logits[column] = middle;
                    Assert.Equal(expected, gradient.Slice(row, 1).HostSpan<float>()[column], 2e-6 + (1e-5 * Math.Abs(expected)));
                }
            }
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void Activations(string variant)
    {
        foreach (GeluKind[] kinds in (GeluKind[][])[[GeluKind.Tanh], [GeluKind.Exact], [GeluKind.Tanh, GeluKind.Exact]])
        {
            ForAll(variant, Shapes, (check, shape) =>
            {
                Tensor x = check.Input("x", new Shape(shape.Rows, shape.Columns), 1);
                foreach (GeluKind kind in kinds)
                {
                    Gelu.Forward(check.Recording, x, kind, x);
                }

                check.Run(x, v => Into(x.Shape, result =>
                {
                    v[0].HostSpan<float>().CopyTo(result.HostSpan<float>());
                    foreach (GeluKind kind in kinds)
                    {
                        Gelu.Reference(result, kind, result);
                    }
                }));
            });
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void Gates(string variant)
    {
        ForAll(variant, Shapes, (check, shape) =>
        {
            Tensor gate = check.Input("gate", new Shape(shape.Rows, shape.Columns), 1), up = check.Input("up", gate.Shape, 2);
            SwiGlu.Forward(check.Recording, gate, up, gate);
            SquaredReluGate.Forward(check.Recording, gate, up, gate);
            check.Run(gate, v => Into(gate.Shape, result =>
            {
                SwiGlu.Reference(v[0], v[1], result);
                SquaredReluGate.Reference(result, v[1], result);
            }));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void ResidualsAndColumns(string variant)
    {
        ForAll(variant, Shapes, (check, shape) =>
        {
            Tensor x = check.Input("x", new Shape(shape.Rows + 1, shape.Columns + 2), 1), y = check.Input("y", new Shape(shape.Rows + 1, shape.Columns), 2);
            Tensor part = KernelData.Empty(y.Shape);
            CopyColumns.Forward(check.Recording, x, 1, part);
            Add.Forward(check.Recording, part, y);
            LowRank.Scale(check.Recording, y, 3);
            check.Run(y, v => Into(y.Shape, result =>
            {
                for (int i = 0; i < (int)result.Shape.Count; i++)
                {
                    int row = i / shape.Columns, column = i % shape.Columns;
                    result.HostSpan<float>()[i] = 3 * (v[1].HostSpan<float>()[i] + v[0].HostSpan<float>()[(row * (shape.Columns + 2)) + column + 1]);
                }
            }));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void Rotations(string variant)
    {
        ForAll(variant, Shapes, (check, shape) =>
        {
            int half = shape.Columns;
            Tensor x = check.Input("x", new Shape(shape.Rows, 2, 2 * half), 1);
            using Tensor cos = KernelData.Random(new Shape(shape.Rows + 3, half), 2), sin = KernelData.Random(new Shape(shape.Rows + 3, half), 3);
            using Tensor positions = KernelData.Indices([.. Enumerable.Range(2, shape.Rows)]);
            Rope.Forward(check.Recording, x, positions, cos, sin);
            check.Run(x, v => Into(x.Shape, result =>
            {
                v[0].HostSpan<float>().CopyTo(result.HostSpan<float>());
                Rope.Reference(result, positions, cos, sin);
            }));
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void DropoutKeepsTheMean(string variant)
    {
        ForAll(variant, Shapes.Append((Rows: 100, Columns: 37)), (check, shape) =>
        {
            Tensor x = check.Input("x", new Shape(shape.Rows, shape.Columns), 1);
            LowRank.Dropout(check.Recording, x, 5, 0.25f);
            bool[] kept = [.. x.HostSpan<float>().ToArray().Select(value => value != 0)];
            if (kept.Length > 3000)
            {
                Assert.InRange(kept.Count(keep => keep) / (double)kept.Length, 0.72, 0.78);
            }

            check.Run(x, v => Into(x.Shape, result =>
            {
                for (int i = 0; i < kept.Length; i++)
                {
                    result.HostSpan<float>()[i] = kept[i] ? v[0].HostSpan<float>()[i] / 0.75f : 0;
                }
            }));
        });
    }

    private static void ForAll<T>(string variant, IEnumerable<T> shapes, Action<GradientCheck, T> run)
    {
        using IBackend backend = GradientBackends.Open(variant);
        foreach (T shape in shapes)
        {
            using GradientCheck check = new(backend);
            run(check, shape);
        }
    }

    private static Tensor Into(Shape shape, Action<Tensor> write)
    {
        Tensor result = KernelData.Empty(shape);
        write(result);
        return result;
    }
}
