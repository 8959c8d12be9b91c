namespace Nibble.Data;

/// <summary>
/// Puts short examples into common rows (first fit among the open rows, in the order of the data), so that less of a batch is
/// padding. The texts stay apart: each sees itself only and has its own positions.
/// </summary>
internal static class RowPacker
{
    private const int OpenRows = 32;

    /// <summary>The same examples in fewer rows of at most <paramref name="length"/> tokens.</summary>
    public static TrainingSet Pack(TrainingSet set, int length)
    {
        List<List<TrainingRow>> rows = [];
        List<(int Row, int Used)> open = [];
        foreach (TrainingRow row in set.Rows)
        {
            int place = open.FindIndex(item => item.Used + row.Ids.Length <= length);
            if (place < 0)
            {
                if (open.Count == OpenRows)
                {
                    open.RemoveAt(open.IndexOf(open.MaxBy(item => item.Used)));
                }

                rows.Add([]);
                open.Add((rows.Count - 1, 0));
                place = open.Count - 1;
            }

            rows[open[place].Row].Add(row);
            open[place] = (open[place].Row, open[place].Used + row.Ids.Length);
        }

        return set with { Rows = [.. rows.Select(Join)] };
    }

    private static TrainingRow Join(List<TrainingRow> parts)
    {
        List<int> starts = [];
        int length = 0;
        foreach (TrainingRow part in parts)
        {
            starts.AddRange(part.Starts.Select(start => length + start));
            length += part.Ids.Length;
        }

        return new TrainingRow([.. parts.SelectMany(part => part.Ids)], [.. parts.SelectMany(part => part.Targets)]) { Starts = starts };
    }
}
