using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// The ternary weight that a dense matrix stands for. A matrix of {−s, 0, +s} is taken as it is; anything else is rounded as
/// BitNet's training does (absmean, arXiv 2402.17764, eq. 1 to 3).
/// </summary>
internal static class TernaryForm
{
    private const float SmallestScale = 1e-5f;

    /// <summary>The ternary form of a floating point matrix.</summary>
    /// <param name="matrix"><c>[out, in]</c> on the host.</param>
    /// <param name="perRow">One scale a row instead of one for the matrix.</param>
    /// <param name="scaleDType">The dtype in which scales will be stored; they are rounded to it first.</param>
    public static TernaryWeight Of(Tensor matrix, bool perRow = false, DType scaleDType = DType.F32)
    {
        using Tensor? converted = matrix.DType == DType.F32 ? null : matrix.To(DType.F32);
        Tensor floats = converted ?? matrix;
        nint rows = matrix.Shape[0], columns = matrix.Shape[1];
        RowFacts[] facts = new RowFacts[rows];
        Spread.Over(rows, columns, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                facts[row] = FactsOf(floats.Slice(row, 1).HostSpan<float>());
            }
        });
        float[] scales = Scales(facts, columns, perRow, scaleDType);
        Tensor codes = Tensor.OnHost(matrix.Shape, DType.U8);
        Spread.Over(rows, columns, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                CodeGrid grid = new(0, scales[perRow ? row : 0], 1, 0, 2);
                VectorSearch.Divide(floats.Slice(row, 1).HostSpan<float>(), grid, codes.Slice(row, 1).HostSpan<byte>());
            }
        });
        return new TernaryWeight(codes, scales, scaleDType);
    }

    /// <summary>The scales of rows of which this is known, rounded to their dtype: one each, or one for all.</summary>
    internal static float[] Scales(RowFacts[] facts, nint columns, bool perRow, DType scaleDType)
    {
        float[] scales = perRow ? [.. facts.Select(row => ScaleOf([row], columns))] : [ScaleOf(facts, columns)];
        return [.. scales.Select(scale => ScaleRounding.To(scale, scaleDType) is var rounded && rounded == 0 ? SmallestScale : rounded)];
    }

    private static RowFacts FactsOf(ReadOnlySpan<float> values)
    {
        double sum = 0;
        float common = 0;
        foreach (float value in values)
        {
            float magnitude = MathF.Abs(value);
            sum += magnitude;
            if (magnitude != 0 && magnitude != common)
            {
                common = common == 0 ? magnitude : float.NaN;
            }
        }

        return new RowFacts(common, sum);
    }

    private static float ScaleOf(ReadOnlySpan<RowFacts> rows, nint columns)
    {
        double sum = 0;
        float common = 0;
        foreach (RowFacts row in rows)
        {
            sum += row.Sum;
            if (row.Common != 0 && row.Common != common)
            {
                common = common == 0 ? row.Common : float.NaN;
            }
        }

        if (float.IsNaN(common))
        {
            return MathF.Max((float)(sum / ((double)rows.Length * columns)), SmallestScale);
        }

        return common == 0 ? SmallestScale : common;
    }

    /// <summary>What scales need to know about a row.</summary>
    /// <param name="Common">The common magnitude where there is one; 0: the row is zero, NaN: there are several.</param>
    /// <param name="Sum">The sum of magnitudes.</param>
    internal readonly record struct RowFacts(float Common, double Sum);
}
