namespace Nibble.Models;

/// <summary>Rows of tokens of different lengths as one matrix on the host, padded with token 0.</summary>
internal sealed class PaddedRows
{
    /// <summary>Pads the rows; the first token of each has the position <paramref name="first"/>.</summary>
    public PaddedRows(IReadOnlyList<int[]> rows, bool left, int first = 0)
    {
        Length = rows.Max(row => row.Length);
        Starts = [.. rows.Select(row => left ? Length - row.Length : 0)];
        Ids = new int[rows.Count][];
        Positions = new int[rows.Count][];
        for (int r = 0; r < rows.Count; r++)
        {
            int[] row = rows[r];
            int start = Starts[r];
            // Cumulative mask − 1, at least 0: padding on the left is at 0, padding on the right repeats the last position.
            Positions[r] = [.. Enumerable.Range(0, Length).Select(i => first + Math.Clamp(i - start, 0, row.Length - 1))];
            Ids[r] = [.. Enumerable.Range(0, Length).Select(i => i >= start && i < start + row.Length ? row[i - start] : 0)];
        }
    }

    /// <summary>Columns.</summary>
    public int Length { get; }

    /// <summary>First real column of each row.</summary>
    public int[] Starts { get; }

    public int[][] Ids { get; }

    public int[][] Positions { get; }
}
