using System.Globalization;
using System.IO.Compression;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.IO;
using Nibble.Runs.Studies;

namespace Nibble.Runs.Reports;

/// <summary>
/// The report as one page that needs nothing else: styles, script, charts and data are in it, and it makes no request. Without
/// JavaScript it is a plain table.
/// </summary>
internal static partial class HtmlReport
{
    public static string Create(StudyResults results)
    {
        Dictionary<string, string> parts = new()
        {
            ["title"] = Text(results.Study),
            ["description"] = Text(results.Description ?? string.Empty),
            ["facts"] = Facts(results),
            ["findings"] = Findings(results),
            ["table"] = Table(results),
            ["training"] = TrainingTable.Html(results),
            ["classes"] = ClassTables.Html(results),
            ["failures"] = Failures(results),
            ["conditions"] = Conditions(results),
            ["cells"] = Cells(results),
            ["style"] = Asset("report.css"),
            ["data"] = Data(results),
            ["charts"] = Asset("echarts.min.js.gz"),
            ["script"] = Asset("report.js"),
        };
        // One pass, so that nothing inside a part is taken for a place.
        return Place().Replace(Asset("report.html"), place => parts[place.Groups[1].Value]);
    }

    [GeneratedRegex(@"\{\{(\w+)\}\}")]
    private static partial Regex Place();

    /// <summary>One of the report's own files.</summary>
    internal static string Asset(string name)
    {
        using Stream stored = typeof(HtmlReport).Assembly.GetManifestResourceStream("Nibble.Runs.Assets." + name)!;
        using Stream plain = name.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(stored, CompressionMode.Decompress) : stored;
        using StreamReader reader = new(plain);
        return reader.ReadToEnd();
    }

    private static string Text(string text) => WebUtility.HtmlEncode(text);

    private static string Facts(StudyResults results)
    {
        Dictionary<string, string> known = ReportTable.Conditions(results).ToDictionary(item => item.Name, item => item.Value);
        string[] wanted = ["model", "data", "protocol", "scored tokens", "device", "kernels", "threads", "activations", "processor"];
        return string.Concat(wanted.Where(known.ContainsKey).Select(name => $"<li><span>{name}</span> {Text(known[name])}</li>"));
    }

    private static string Findings(StudyResults results) =>
        string.Concat(Runs.Reports.Findings.Of(results.Cells).Select(finding =>
            $"<div class=\"card\"><h3>{Text(finding.Question)}</h3><p class=\"answer\">{Text(finding.Answer)}</p><p>{Text(finding.Reason)}</p></div>"));

    private static string Table(StudyResults results)
    {
        IReadOnlyList<MetricInfo> columns = ReportTable.Columns(results.Cells);
        bool models = ReportTable.ManyModels(results);
        HashSet<ResultDocument> front = [.. Front(results.Cells)];
        StringBuilder html = new("<table id=\"results\"><thead><tr>");
        html.Append(models ? "<th scope=\"col\">model</th>" : string.Empty).Append("<th scope=\"col\">method</th><th scope=\"col\" class=\"number\">bits</th>");
        foreach (MetricInfo column in columns)
        {
            string arrow = column.Better switch { Better.Lower => "\u00A0↓", Better.Higher => "\u00A0↑", _ => string.Empty };
            html.Append($"<th scope=\"col\" class=\"number\" title=\"{Text(column.Meaning)}\">{Text(ReportTable.Heading(column))}{arrow}</th>");
        }

        html.Append("</tr></thead><tbody>");
        foreach (ResultDocument cell in results.Cells)
        {
            html.Append(cell.Baseline == true ? "<tr class=\"baseline\">" : "<tr>");
            html.Append(models ? $"<td>{Text(cell.Model)}</td>" : string.Empty);
            string mark = front.Contains(cell) ? " <span class=\"front\" title=\"on the Pareto front of size and perplexity\">◆</span>" : string.Empty;
            html.Append($"<th scope=\"row\">{Text(ReportTable.Label(cell))}{mark}</th><td class=\"number\" data-value=\"{Raw(cell.Bits)}\">{Raw(cell.Bits)}</td>");
            foreach (MetricInfo column in columns)
            {
                string? interval = ReportTable.Interval(cell, column);
                string raw = cell.Metrics.TryGetValue(column.Name, out double value) ? Raw(value) : string.Empty;
                html.Append($"<td class=\"number\" data-value=\"{raw}\">{ReportTable.Number(cell, column)}{(interval is null ? string.Empty : $"<small>{interval}</small>")}</td>");
            }

            html.Append("</tr>\n");
        }

        return html.Append("</tbody></table>").ToString();
    }

    /// <summary>The cells that no other cell of their model beats in both size and perplexity.</summary>
    internal static IEnumerable<ResultDocument> Front(IReadOnlyList<ResultDocument> cells)
    {
        ResultDocument[] known = [.. cells.Where(cell => cell.Metrics.ContainsKey("perplexity") && cell.Metrics.ContainsKey("weight_bytes"))];
        return known.GroupBy(cell => cell.Model).SelectMany(group =>
        {
            ResultDocument[] list = [.. group];
            return ParetoFront.Of([.. list.Select(cell => (cell.Metrics["weight_bytes"], cell.Metrics["perplexity"]))]).Select(i => list[i]);
        });
    }

    private static string Raw(double? value) => value?.ToString("R", CultureInfo.InvariantCulture) ?? string.Empty;

    private static string Failures(StudyResults results) => results.Failures.Count == 0 ? string.Empty
        : "<section><h2>Failed cells</h2>" + string.Concat(results.Failures.Select(failure =>
            $"<details open><summary>{Text(failure.Model)}, {Text(failure.Label)}: exit code {failure.ExitCode}</summary><pre>{Text(failure.Error)}</pre><pre>{Text(failure.Command)}</pre></details>")) + "</section>";

    private static string Conditions(StudyResults results) =>
        string.Concat(ReportTable.Conditions(results).Select(item => $"<dt>{Text(item.Name)}</dt><dd>{Text(item.Value)}</dd>"));

    private static string Cells(StudyResults results) => string.Concat(results.Cells.Select(cell =>
    {
        string settings = string.Join(", ", cell.Settings.Select(item => $"{item.Key} = {item.Value}"));
        string packings = string.Join(", ", cell.Packings.Select(item => $"{item.Value} × {item.Key}"));
        return $"<tr><th scope=\"row\">{Text(ReportTable.Label(cell))}</th><td>{Text(cell.Method)}</td><td>{Text(settings)}</td><td>{Text(packings)}</td><td>{Text(cell.ActivationDtype)}</td><td><code>{Text(cell.Command ?? string.Empty)}</code></td></tr>\n";
    }));

    private static string Data(StudyResults results)
    {
        HashSet<ResultDocument> front = [.. Front(results.Cells)];
        ReportData data = new(
            ReportTable.ManyModels(results),
            [.. ReportTable.Columns(results.Cells).Select(metric => new ReportMetric(metric.Name, ReportTable.Heading(metric), metric.Better.ToString().ToLowerInvariant()))],
            [.. results.Cells.Select(cell => new ReportCell(ReportTable.Label(cell), cell.Model, cell.Method, cell.Bits, cell.Baseline == true, front.Contains(cell), cell.Metrics, cell.Intervals))]);
        // The default encoder writes <, > and & as \u003C …: nothing in the data can end the script element.
        return DocumentJson.Text(data, DocumentJson.Known(new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower }));
    }
}

/// <summary>What the charts of a report read.</summary>
internal sealed record ReportData(bool Models, IReadOnlyList<ReportMetric> Metrics, IReadOnlyList<ReportCell> Cells);

/// <summary>A metric that cells have.</summary>
internal sealed record ReportMetric(string Name, string Label, string Better);

/// <summary>A cell with its numbers.</summary>
internal sealed record ReportCell(
    string Label, string Model, string Method, double? Bits, bool Baseline, bool Front, IReadOnlyDictionary<string, double> Metrics, IReadOnlyDictionary<string, double[]> Intervals);
