using System.Text;
using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.Runs.Studies;

namespace Nibble.Runs.Reports;

/// <summary>The report as Markdown, for pull requests and notes.</summary>
internal static class MarkdownReport
{
    public static string Create(StudyResults results)
    {
        StringBuilder text = new();
        text.Append("# ").Append(results.Study).Append("\n\n");
        if (results.Description is { } description)
        {
            text.Append(description.Trim()).Append("\n\n");
        }

        IReadOnlyList<MetricInfo> columns = ReportTable.Columns(results.Cells);
        bool models = ReportTable.ManyModels(results);
        Line(text, [.. models ? ["model"] : Array.Empty<string>(), "method", .. columns.Select(ReportTable.Heading)]);
        Line(text, [.. models ? ["---"] : Array.Empty<string>(), "---", .. columns.Select(_ => "---:")]);
        foreach (ResultDocument cell in results.Cells)
        {
            Line(text, [.. models ? [cell.Model] : Array.Empty<string>(), ReportTable.Label(cell), .. columns.Select(column => Value(cell, column))]);
        }

        text.Append("\nIn brackets: 95 % intervals (block bootstrap over tokens; of speeds the fastest and slowest run). \"÷ baseline\" is paired: both models on the same tokens.\n");
        if (TrainingTable.Markdown(results) is { Count: > 0 } trained)
        {
            text.Append("\n**What was trained**\n\n");
            foreach (string[] line in trained)
            {
                Line(text, line);
            }
        }

        foreach ((string title, IReadOnlyList<string[]> lines) in ClassTables.Markdown(results))
        {
            text.Append($"\n**Classes:** {title}\n\n");
            foreach (string[] line in lines)
            {
                Line(text, line);
            }
        }

        foreach (CellFailure failure in results.Failures)
        {
            text.Append($"\n**Failed:** {failure.Model}, {failure.Label} (exit code {failure.ExitCode})\n\n```\n{failure.Error}\n```\n");
        }

        text.Append("\n## Conditions\n\n");
        foreach ((string name, string value) in ReportTable.Conditions(results))
        {
            text.Append($"- {name}: {value}\n");
        }

        return text.ToString();
    }

    private static string Value(ResultDocument cell, MetricInfo metric)
    {
        string? interval = ReportTable.Interval(cell, metric);
        return ReportTable.Number(cell, metric) + (interval is null ? string.Empty : $" ({interval})");
    }

    private static void Line(StringBuilder text, IEnumerable<string> fields) =>
        text.Append("| ").AppendJoin(" | ", fields.Select(field => field.Replace("|", "\\|", StringComparison.Ordinal))).Append(" |\n");
}
