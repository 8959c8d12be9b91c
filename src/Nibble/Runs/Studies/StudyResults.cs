using Nibble.Evaluation;

namespace Nibble.Runs.Studies;

/// <summary>A cell that has no result.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Label">The method's label.</param>
/// <param name="Method">The method.</param>
/// <param name="ExitCode">Exit code of its process.</param>
/// <param name="Error">What it printed.</param>
/// <param name="Command">The command that shows the failure again.</param>
public sealed record CellFailure(string Model, string Label, string Method, int ExitCode, string Error, string Command)
{
    private const int MostCharacters = 4000;

    internal static CellFailure Of(StudyCell cell, int exitCode, string errors)
    {
        string text = errors.Trim();
        int start = text.LastIndexOf("error:", StringComparison.Ordinal);
        text = start >= 0 ? text[start..] : text;
        text = text.Length > MostCharacters ? text[^MostCharacters..] : text;
        string fallback = exitCode > 128 ? $"the process was ended by signal {exitCode - 128}" : "the process said nothing";
        return new CellFailure(cell.Model.Name, cell.Method.Label, cell.Method.Method, exitCode, text.Length > 0 ? text : fallback, "nibble " + CellPreparation.Line(cell.Arguments));
    }
}

/// <summary>The document <c>results.json</c>.</summary>
/// <param name="Schema">Version of the form.</param>
/// <param name="Study">Name of the study.</param>
/// <param name="Description">What it is for.</param>
/// <param name="Complete">True if every planned cell has a result.</param>
/// <param name="Cells">Results, in the order of the plan.</param>
/// <param name="Failures">Cells that failed.</param>
public sealed record StudyResults(
    int Schema, string Study, string? Description, bool Complete, IReadOnlyList<ResultDocument> Cells, IReadOnlyList<CellFailure> Failures)
{
    internal static StudyResults Of(StudyPlan plan, IReadOnlyList<ResultDocument> cells, IReadOnlyList<CellFailure> failures) =>
        new(1, plan.Study.Name, plan.Study.Description, cells.Count == plan.Cells.Count, [.. cells], [.. failures]);
}
