using System.Net;
using System.Text;
using Nibble.Evaluation;
using Nibble.Runs.Studies;

namespace Nibble.Runs.Reports;

/// <summary>What was trained for each model of a study, and in which numbers.</summary>
internal static class TrainingTable
{
    private static readonly string[] Head = ["model", "training", "trained / total parameters", "steps", "seconds", "peak memory, MB", "what is trained, in which numbers"];

    /// <summary>A section of the page; empty if nothing was trained.</summary>
    public static string Html(StudyResults results)
    {
        string[][] rows = [.. Rows(results)];
        if (rows.Length == 0)
        {
            return string.Empty;
        }

        StringBuilder html = new("<section><h2>What was trained</h2><p class=\"hint\">Trainings of a model in their order; what follows was measured on the result.</p><div class=\"scroll\"><table class=\"plain\"><thead><tr>");
        html.AppendJoin(string.Empty, Head.Select(title => $"<th scope=\"col\">{title}</th>")).Append("</tr></thead><tbody>");
        foreach (string[] row in rows)
        {
            html.Append("<tr>").AppendJoin(string.Empty, row.Select((field, i) => i == 0 ? $"<th scope=\"row\">{Text(field)}</th>" : $"<td{(i is > 1 and < 6 ? " class=\"number\"" : string.Empty)}>{Text(field)}</td>")).Append("</tr>\n");
        }

        return html.Append("</tbody></table></div></section>").ToString();
    }

    /// <summary>The same for Markdown; empty if nothing was trained.</summary>
    public static IReadOnlyList<string[]> Markdown(StudyResults results)
    {
        string[][] rows = [.. Rows(results)];
        return rows.Length == 0 ? [] : [Head, [.. Head.Select((_, i) => i is > 1 and < 6 ? "---:" : "---")], .. rows];
    }

    private static IEnumerable<string[]> Rows(StudyResults results) => results.Cells.Where(cell => cell.Training is not null).DistinctBy(cell => cell.Model).SelectMany(cell =>
        cell.Training!.Select(training => new[]
        {
            cell.Model, training.Method, string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{training.TrainableParameters:#,0} / {training.TotalParameters:#,0}"), $"{training.Steps}",
            ReportTable.Significant(training.TrainingSeconds, 3), ReportTable.Significant(training.PeakMemoryBytes / 1e6, 3), training.Precision,
        }));

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
