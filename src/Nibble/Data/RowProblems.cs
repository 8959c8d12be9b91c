using Nibble.Data.Rows;
using Nibble.IO;

namespace Nibble.Data;

/// <summary>Rows that can't be used: how many, and the first few with file and line.</summary>
internal sealed class RowProblems
{
    private const int MostShown = 5;
    private readonly List<string> _first = [];

    /// <summary>How many.</summary>
    public int Count { get; private set; }

    /// <summary>Adds one.</summary>
    public void Add(RowFile file, long place, string problem, bool isByte = false)
    {
        if (Count++ < MostShown)
        {
            string name = file.Source.Name.Split('?')[0].TrimEnd('/');
            _first.Add($"{name[(name.LastIndexOf('/') + 1)..]} {(isByte ? "byte" : file.Unit)} {Math.Abs(place):N0}: {problem}");
        }
    }

    /// <summary>Refuses the data, or, if asked to skip, says what was left out.</summary>
    public void Settle(string source, DataOptions options) => Settle(
        source,
        options,
        options.Format == RowFormat.Auto ? "expected are rows with text, prompt and completion, messages, conversations, or instruction and output" : $"--format {options.Format.ToString().ToLowerInvariant()} says what they must be",
        "correct them, or pass --skip-bad to leave them out");

    /// <summary>The same, with what was expected.</summary>
    public void Settle(string source, DataOptions options, string expected, string remedy)
    {
        if (Count == 0)
        {
            return;
        }

        string list = string.Join("; ", _first) + (Count > MostShown ? $"; and {Count - MostShown:N0} more" : string.Empty);
        if (options.SkipBad)
        {
            options.Note?.Invoke($"{source}: {Count:N0} rows left out: {list}");
            return;
        }

        Throw.BadInput($"{source}: {Count:N0} rows can't be used: {list}", expected, remedy);
    }
}
