using Nibble.Backends;
using Nibble.Ops;
using Nibble.Quantization;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Products of a backend that multiplies in BF16: every kind of weight, against the reference within what BF16 rounds away.</summary>
internal static class TensorChecks
{
    // Units of 16 × 128, less and more than one, columns that no lane's eight divide, and more units than the warps of a block.
    private static readonly (int Out, int In)[] Shapes = [(5, 24), (37, 200), (40, 1160)];

    // Few rows, many rows, and a matrix of the whole weight.
    private static readonly int[] Rows = [1, 3, 11, 20, 75];

    // Rounding of x and of levels, 2⁻⁹ each at most, over sums of random signs, which may cancel.
    private const double Tolerance = 1e-2;

    public static IReadOnlyList<KernelCheck> All { get; } =
    [
        .. Kinds().SelectMany(kind => Shapes.Select(shape => new KernelCheck(
            $"bf16 product {kind.Name} {shape.Out}×{shape.In}", backend => Check(backend, kind, shape.Out, shape.In)))),
    ];

    private static IEnumerable<PackingKind> Kinds()
    {
        foreach (int bits in new[] { 2, 3, 4, 8 })
        {
            yield return new($"affine {bits} bits, group 32, F16 scales", (o, i, r) => PackingCheckData.Affine(o, i, r, bits, 32, dtype: DType.F16));
            yield return new($"affine {bits} bits, group 64, real zeros", (o, i, r) => PackingCheckData.Affine(o, i, r, bits, 64, offsets: 'r', dtype: DType.BF16));
        }

        yield return new("affine 4 bits, group 128, bias", (o, i, r) => PackingCheckData.Affine(o, i, r, 4, 128, AffineForm.Bias, offsets: 'r'));
        yield return new("affine 8 bits, whole rows", (o, i, r) => PackingCheckData.Affine(o, i, r, 8, i, offsets: 's'));
        yield return new("affine 4 bits, group 128, symmetric", (o, i, r) => PackingCheckData.Affine(o, i, r, 4, 128, offsets: 's', dtype: DType.F16));
        yield return new("affine 4 bits, group 32, symmetric", (o, i, r) => PackingCheckData.Affine(o, i, r, 4, 32, offsets: 's', dtype: DType.F16));
        yield return new("affine 4 bits, act-order", (o, i, r) => PackingCheckData.Affine(o, i, r, 4, 64, actOrder: true));
        yield return new("codebook, block 64", (o, i, r) => PackingCheckData.Codebook(o, i / 64 * 64, r, 64));
        yield return new("codebook, block 32, nested", (o, i, r) => PackingCheckData.Codebook(o, i / 32 * 32, r, 32, nested: true));
        yield return new("codebook, block 64 across rows", (o, i, r) => PackingCheckData.Codebook(o, i, r, 64));
    }

    private static void Check(IBackend backend, PackingKind kind, int outFeatures, int inFeatures)
    {
        using QuantizedWeight weight = kind.Make(outFeatures, inFeatures, new Random(outFeatures + inFeatures));
        if (weight.In == 0)
        {
            return;
        }

        using Tensor dense = weight.Dequantize();
        using IPackedWeight packed = backend.Prepare(weight, ActivationType.F32);
        using Tensor half = dense.To(DType.BF16), rounded = half.To(DType.F32);
        using IPackedWeight matrix = backend.Prepare(half);
        foreach (int rows in Rows)
        {
            using Tensor x = Random(new Shape(rows, weight.In), rows), bias = Random(new Shape(weight.Out), rows + 1);
            Compare(backend, x, packed, bias, dense, $"{rows} rows");
            Compare(backend, x, matrix, bias, rounded, $"{rows} rows, dense");
        }
    }

    private static void Compare(IBackend backend, Tensor x, IPackedWeight packed, Tensor bias, Tensor dense, string what)
    {
        using Tensor y = Empty(new Shape(x.Shape.Rows, packed.Out));
        MatMul.Forward(backend, x, packed, bias, y);
        double error = 0, norm = 0;
        for (int row = 0; row < (int)x.Shape.Rows; row++)
        {
            for (int o = 0; o < (int)packed.Out; o++)
            {
                double sum = bias.HostSpan<float>()[o];
                for (int k = 0; k < (int)packed.In; k++)
                {
                    sum += (double)x.HostSpan<float>()[(row * (int)packed.In) + k] * dense.HostSpan<float>()[(o * (int)packed.In) + k];
                }

                double difference = sum - y.HostSpan<float>()[(row * (int)packed.Out) + o];
                error += difference * difference;
                norm += sum * sum;
            }
        }

        if (!(Math.Sqrt(error / norm) <= Tolerance))
        {
            throw new InvalidOperationException($"{what}: relative error {Math.Sqrt(error / norm):g3}, at most {Tolerance:g3} allowed");
        }
    }
}
