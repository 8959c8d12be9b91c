using Nibble.Quantization.Calibration;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Awq;

/// <summary>
/// AWQ's clipping: of ten ranges, from all of a group's range down to 55 % of its largest magnitude, the one for which the group's
/// share of the output changes least. The authors measure that on 512 tokens; the Gram matrix of the inputs gives it for all.
/// </summary>
internal static class GroupClipping
{
    /// <summary>Ranges that are tried, in steps of a twentieth.</summary>
    public const int Tried = 10;

    private const int Steps = 20;

    /// <summary>The grid of every group, <c>[rows · groups a row]</c>.</summary>
    public static CodeGrid[] Find(Tensor weight, WeightFacts facts, GramStatistics gram)
    {
        int columns = (int)facts.In, group = facts.GroupSize, perRow = (int)facts.GroupsPerRow;
        CodeGrid[] best = new CodeGrid[facts.Out * perRow];
        for (int g = 0, start = 0; start < columns; start += group, g++)
        {
            int length = Math.Min(group, columns - start);
            using QuadraticForm form = new(gram, start, length);
            FindColumnGroup(weight, facts, form, new Part(start, length, g, perRow), best);
        }

        return best;
    }

    private static void FindColumnGroup(Tensor weight, WeightFacts facts, QuadraticForm form, Part part, CodeGrid[] best)
    {
        nint rows = facts.Out;
        using Tensor errors = Tensor.OnHost(new Shape(rows, part.Length), DType.F32), product = Tensor.OnHost(new Shape(rows, part.Length), DType.F32);
        double[] values = new double[rows], least = new double[rows];
        Array.Fill(least, double.PositiveInfinity);
        CodeGrid[] grids = new CodeGrid[rows];
        for (int step = 0; step < Tried; step++)
        {
            float share = 1 - ((float)step / Steps);
            Spread.Over(rows, part.Length * 8, (first, last) =>
            {
                for (nint row = first; row < last; row++)
                {
                    ReadOnlySpan<float> w = weight.Slice(row, 1).HostSpan<float>().Slice(part.Start, part.Length);
                    grids[row] = GridOf(w, share, facts);
                    GridError.Of(w, grids[row], errors.Slice(row, 1).HostSpan<float>());
                }
            });
            form.OfRows(errors, product, values);
            for (nint row = 0; row < rows; row++)
            {
                if (values[row] < least[row])
                {
                    least[row] = values[row];
                    best[(row * part.PerRow) + part.Index] = grids[row];
                }
            }
        }
    }

    private static CodeGrid GridOf(ReadOnlySpan<float> values, float share, WeightFacts facts)
    {
        (float min, float max) = VectorSearch.Range(values);
        float limit = MathF.Max(MathF.Abs(min), MathF.Abs(max)) * share;
        return RtnMethod.GridOf([MathF.Max(min, -limit), MathF.Min(max, limit)], facts.Bits, facts.Symmetric, facts.ScaleDType);
    }

    /// <summary>One group of columns: where it starts, how many, its number, and how many a row has.</summary>
    private readonly record struct Part(int Start, int Length, int Index, int PerRow);
}
