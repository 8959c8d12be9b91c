using System.Net;
using System.Text;
using Nibble.Evaluation;
using Nibble.Evaluation.Classification;
using Nibble.Runs.Studies;

namespace Nibble.Runs.Reports;

/// <summary>Scores of classes and confusion matrices of a study's cells.</summary>
internal static class ClassTables
{
    /// <summary>A section of the page; empty if nothing was classified.</summary>
    public static string Html(StudyResults results)
    {
        ResultDocument[] cells = [.. results.Cells.Where(cell => cell.Classes is not null)];
        if (cells.Length == 0)
        {
            return string.Empty;
        }

        StringBuilder html = new("<section><h2>Classes</h2><p class=\"hint\">Rows are true classes; the last columns count what was predicted. An answer that names no class is “unparsed” and counts as wrong.</p>");
        foreach (ResultDocument cell in cells)
        {
            html.Append($"<details><summary>{Text(cell.Model)}, {Text(ReportTable.Label(cell))}</summary><div class=\"scroll\"><table class=\"plain\"><thead><tr>");
            html.AppendJoin(string.Empty, Head(cell).Select(title => $"<th scope=\"col\">{Text(title)}</th>")).Append("</tr></thead><tbody>");
            foreach (string[] row in Rows(cell))
            {
                html.Append($"<tr><th scope=\"row\">{Text(row[0])}</th>").AppendJoin(string.Empty, row.Skip(1).Select(field => $"<td class=\"number\">{field}</td>")).Append("</tr>");
            }

            html.Append("</tbody></table></div></details>\n");
        }

        return html.Append("</section>").ToString();
    }

    /// <summary>The same for Markdown.</summary>
    public static IEnumerable<(string Title, IReadOnlyList<string[]> Lines)> Markdown(StudyResults results) =>
        results.Cells.Where(cell => cell.Classes is not null).Select(cell =>
            ($"{cell.Model}, {ReportTable.Label(cell)}", (IReadOnlyList<string[]>)[Head(cell), [.. Head(cell).Select((_, i) => i == 0 ? "---" : "---:")], .. Rows(cell)]));

    private static string[] Head(ResultDocument cell) => ["class", "precision, %", "recall, %", "F1, %", "rows", .. cell.Classes!.Select(item => "→ " + item.Label), "→ unparsed"];

    private static IEnumerable<string[]> Rows(ResultDocument cell)
    {
        for (int i = 0; i < cell.Classes!.Count; i++)
        {
            ClassScore score = cell.Classes[i];
            string[] shares = [.. new[] { score.Precision, score.Recall, score.F1 }.Select(share => ReportTable.Significant(100 * share, 3))];
            yield return [score.Label, .. shares, $"{score.Support}", .. cell.Confusion![i].Select(count => $"{count}")];
        }
    }

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
