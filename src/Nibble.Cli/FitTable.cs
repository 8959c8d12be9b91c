using Spectre.Console;

namespace Nibble.Cli;

/// <summary>A column of a <see cref="FitTable"/>.</summary>
/// <param name="Heading">What stands above it; it may break at spaces. Markup.</param>
/// <param name="IsNumber">Numbers stand at the right.</param>
/// <param name="Wraps">Its cells may break at spaces; all others keep one line.</param>
/// <param name="Rank">0: always shown. Where the terminal is too narrow, the highest ranks are left out first.</param>
internal sealed record FitColumn(string Heading, bool IsNumber = false, bool Wraps = false, int Rank = 0);

/// <summary>
/// A table that stays readable in a narrow terminal: headings break, then the least important columns are left out and named below.
/// Numbers are never broken or cut. A column without any content is not shown.
/// </summary>
internal sealed class FitTable(params IReadOnlyList<FitColumn> columns)
{
    private readonly List<string[]> _rows = [];

    /// <summary>Adds a row: a text with markup for each column.</summary>
    public void AddRow(params string[] cells) => _rows.Add(cells);

    /// <summary>Writes it in the width of <paramref name="console"/>.</summary>
    public void Write(IAnsiConsole console)
    {
        int[] filled = [.. Enumerable.Range(0, columns.Count).Where(column => _rows.Count == 0 || _rows.Any(row => row[column].Length > 0))];
        List<int> shown = [.. filled];
        while (Least(shown, padding: 0) > console.Profile.Width && shown.MaxBy(column => columns[column].Rank) is int last && columns[last].Rank > 0)
        {
            shown.Remove(last);
        }

        int padding = Least(shown, padding: 1) <= console.Profile.Width ? 1 : 0;
        Table table = new Table().Border(TableBorder.Simple);
        foreach ((int column, int width) in shown.Zip(Widths(shown, console.Profile.Width - Edges(shown.Count, padding))))
        {
            bool right = columns[column].IsNumber;
            TableColumn added = new TableColumn(columns[column].Heading) { Width = width, Alignment = right ? Justify.Right : Justify.Left };
            table.AddColumn(added.PadLeft(right ? padding : 0).PadRight(right ? 0 : padding));
        }

        _rows.ForEach(row => table.AddRow([.. shown.Select(column => row[column])]));
        console.Write(table);
        if (shown.Count < filled.Length)
        {
            IEnumerable<string> names = filled.Except(shown).Select(column => Markup.Remove(columns[column].Heading).Replace(", ", " in ", StringComparison.Ordinal));
            console.WriteLine($"not shown, for want of width: {string.Join("; ", names)}");
        }
    }

    private static int Edges(int columns, int padding) => columns + 1 + (padding * columns);

    private static int Longest(string text, bool wraps)
    {
        string plain = Markup.Remove(text);
        return wraps ? plain.Split(' ').Max(word => word.GetCellWidth()) : plain.GetCellWidth();
    }

    private int Least(List<int> shown, int padding) => shown.Sum(Least) + Edges(shown.Count, padding);

    private int Least(int column) => Measure(column, headingWraps: true, columns[column].Wraps);

    private int Measure(int column, bool headingWraps, bool cellsWrap) =>
        _rows.Select(row => Longest(row[column], cellsWrap)).Append(Longest(columns[column].Heading, headingWraps)).Max();

    // What is left over goes to cells that would break, then to headings that would.
    private int[] Widths(List<int> shown, int room)
    {
        int[] widths = [.. shown.Select(Least)];
        int left = room - widths.Sum();
        foreach (bool headingWraps in new[] { true, false })
        {
            for (int i = 0; i < widths.Length; i++)
            {
                int more = Math.Clamp(Measure(shown[i], headingWraps, cellsWrap: false) - widths[i], 0, Math.Max(left, 0));
                widths[i] += more;
                left -= more;
            }
        }

        return widths;
    }
}
