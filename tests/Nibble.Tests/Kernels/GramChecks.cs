using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>The symmetric product of calibration.</summary>
internal static class GramChecks
{
    public static IEnumerable<KernelCheck> All { get; } = [new("gram odd sizes", OddSizes), new("gram threads", Threads)];

    private static void OddSizes(IBackend backend)
    {
        foreach ((int rows, int columns) in new[] { (0, 3), (1, 1), (5, 17), (130, 64), (257, 65), (64, 100), (33, 200), (300, 193) })
        {
            using Tensor x = Random(new Shape(rows, columns), 1, skip: 1);
            double[] sum = new double[columns * columns];
            Array.Fill(sum, 2);
            backend.Kernels.AddGram(x, sum);
            float[] values = x.HostSpan<float>().ToArray();
            for (int i = 0; i < columns; i++)
            {
                for (int j = 0; j < columns; j++)
                {
                    double expected = 2;
                    for (int k = 0; j <= i && k < rows; k++)
                    {
                        expected += (double)values[(k * columns) + i] * values[(k * columns) + j];
                    }

                    if (Math.Abs(sum[(i * columns) + j] - expected) > 1e-5 * (1 + Math.Abs(expected)))
                    {
                        throw new InvalidOperationException($"gram of {x.Shape}: element ({i}, {j}) is {sum[(i * columns) + j]:R}, expected {expected:R}");
                    }
                }
            }
        }
    }

    private static void Threads(IBackend backend)
    {
        if (backend.Name != "cpu")
        {
            return;
        }

        CpuVariant variant = CpuVariant.All.First(v => v.Name == backend.KernelVariant);
        using CpuBackend one = new(variant, 1), three = new(variant, 3);
        using Tensor x = Random(new Shape(150, 140), 2);
        double[] first = new double[140 * 140], second = new double[140 * 140];
        one.Kernels.AddGram(x, first);
        three.Kernels.AddGram(x, second);
        if (!first.AsSpan().SequenceEqual(second))
        {
            throw new InvalidOperationException("gram: 3 threads differ from 1");
        }
    }
}
