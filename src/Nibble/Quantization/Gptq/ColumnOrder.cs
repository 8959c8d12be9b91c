using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Gptq;

/// <summary>The order in which GPTQ visits the columns of a matrix.</summary>
internal static class ColumnOrder
{
    /// <summary>The columns in the order of visiting: as they stand, or by falling activation energy (act-order).</summary>
    public static int[] Of(GramStatistics gram, bool actOrder)
    {
        int[] order = [.. Enumerable.Range(0, gram.Columns)];
        return actOrder ? [.. order.OrderByDescending(i => gram.Diagonal[i])] : order;
    }

    /// <summary>The weights with columns in visiting order; columns of dead inputs become zero, since nothing depends on them.</summary>
    public static float[] Gather(Tensor weight, int[] order, GramStatistics gram)
    {
        int rows = (int)weight.Shape[0], columns = order.Length;
        float[] values = new float[(long)rows * columns];
        for (int row = 0; row < rows; row++)
        {
            ReadOnlySpan<float> source = weight.Slice(row, 1).HostSpan<float>();
            for (int i = 0; i < columns; i++)
            {
                bool dead = gram.Diagonal[order[i]] == 0;
                values[(row * columns) + i] = dead ? 0 : source[order[i]];
            }
        }

        return values;
    }

    /// <summary>Codes in visiting order as U8 <c>[rows, columns]</c> with every column in its place.</summary>
    public static Tensor Place(byte[] codes, int[] order, Shape shape)
    {
        Tensor placed = Tensor.OnHost(shape, DType.U8);
        int columns = order.Length;
        for (int row = 0; row < shape[0]; row++)
        {
            Span<byte> target = placed.Slice(row, 1).HostSpan<byte>();
            for (int i = 0; i < columns; i++)
            {
                target[order[i]] = codes[(row * columns) + i];
            }
        }

        return placed;
    }
}
