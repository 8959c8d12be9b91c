using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cpu.Gradients;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Tests.Kernels;

/// <summary>Panels of the backward products, in memory of exactly their size.</summary>
public sealed unsafe class PanelBlockTests
{
    private const float Untouched = -77;

    [Theory]
    [InlineData(4, 2)]
    [InlineData(9, 8)]
    [InlineData(17, 33)]
    public void PanelsHoldTheMatrixAndNothingBeyond(int depth, int columns)
    {
        Check<Lanes1, float>(depth, columns);
        Check<Lanes128, Vector128<float>>(depth, columns);
        Check<Lanes256, Vector256<float>>(depth, columns);
        Check<Lanes512, Vector512<float>>(depth, columns);
    }

    private static void Check<S, V>(int depth, int columns)
        where S : struct, ILanes<V>
        where V : unmanaged
    {
        int width = (int)Blocks<S, V>.Width, floats = (columns + width - 1) / width * width * depth;
        float[] matrix = [.. Enumerable.Range(1, depth * columns).Select(i => (float)i)], packed = new float[floats + 8];
        Array.Fill(packed, Untouched);
        fixed (float* b = matrix, target = packed)
        {
            // Column j is contiguous: the panels are its transpose.
            Blocks<S, V>.PackPanels(b, 1, depth, depth, columns, target);
        }

        for (int j = 0; j < columns; j++)
        {
            for (int k = 0; k < depth; k++)
            {
                Assert.Equal(matrix[(j * depth) + k], packed[(j / width * width * depth) + (k * width) + (j % width)]);
            }
        }

        Assert.All(packed[floats..], value => Assert.Equal(Untouched, value));
    }
}
