using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Ops;
using Nibble.Quantization;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

public class PackingThreadTests
{
    [Theory]
    [InlineData("avx512")]
    [InlineData("avx2")]
    [InlineData("vector128")]
    [InlineData("scalar")]
    public void ProductsOfPackedWeightsDoNotDependOnTheNumberOfThreads(string name)
    {
        CpuVariant variant = CpuVariant.All.First(v => v.Name == name);
        foreach (Func<Random, QuantizedWeight> make in new Func<Random, QuantizedWeight>[]
        {
            r => PackingCheckData.Affine(330, 320, r, 4, 64),
            r => PackingCheckData.Affine(330, 320, r, 3, 48, offsets: 'r'),
            r => PackingCheckData.Codebook(330, 320, r, 64, nested: true),
        })
        {
            foreach (ActivationType activations in new[] { ActivationType.F32, ActivationType.Int8 })
            {
                using QuantizedWeight weight = make(new Random(1));
                Tensor[] results = [.. new[] { 1, 2, 3 }.Select(threads => Multiply(variant, threads, weight, activations))];
                Equal(results[1], results[0], $"{activations}, 2 threads against 1");
                Equal(results[2], results[0], $"{activations}, 3 threads against 1");
            }
        }
    }

    private static Tensor Multiply(CpuVariant variant, int threads, QuantizedWeight weight, ActivationType activations)
    {
        using CpuBackend backend = new(variant, threads);
        using IPackedWeight packed = backend.Prepare(weight, activations);
        using Tensor x = Random(new Shape(47, weight.In), 1);
        Tensor y = Empty(new Shape(47, weight.Out));
        foreach ((int first, int rows) in new[] { (0, 1), (1, 6), (7, 40) })
        {
            MatMul.Forward(backend, x.Slice(first, rows), packed, null, y.Slice(first, rows));
        }

        return y;
    }
}
