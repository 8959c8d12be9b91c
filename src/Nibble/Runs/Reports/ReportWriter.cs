using System.Globalization;
using System.Text;
using CsvHelper;
using Nibble.Evaluation;
using Nibble.Evaluation.Metrics;
using Nibble.IO;
using Nibble.Runs.Studies;

namespace Nibble.Runs.Reports;

/// <summary>Writes a study's results in all forms: results.json, results.csv, report.md, report.html.</summary>
public static class ReportWriter
{
    /// <summary>Names of the files, the page for people last.</summary>
    public static IReadOnlyList<string> Files { get; } = ["results.json", "results.csv", "report.md", "report.html"];

    /// <summary>Writes all files into <paramref name="folder"/>, each whole or not at all.</summary>
    public static void Write(string folder, StudyResults results)
    {
        AtomicFile.WriteAllText(Path.Combine(folder, "results.json"), DocumentJson.Text(results, ResultDocument.JsonOptions) + "\n");
        AtomicFile.WriteAllText(Path.Combine(folder, "results.csv"), Csv(results));
        AtomicFile.WriteAllText(Path.Combine(folder, "report.md"), MarkdownReport.Create(results));
        AtomicFile.WriteAllText(Path.Combine(folder, "report.html"), HtmlReport.Create(results));
    }

    /// <summary>One row a cell: what it is, every metric, and the ends of every interval.</summary>
    public static string Csv(StudyResults results)
    {
        string[] metrics = [.. results.Cells.SelectMany(cell => cell.Metrics.Keys).Distinct()
            .OrderBy(name => MetricInfo.All.TakeWhile(metric => metric.Name != name).Count()).ThenBy(name => name, StringComparer.Ordinal)];
        string[] intervals = [.. metrics.Where(name => results.Cells.Any(cell => cell.Intervals.ContainsKey(name)))];
        using StringWriter text = new(CultureInfo.InvariantCulture);
        using (CsvWriter csv = CsvWriter.Create(text, CsvWriterOptions.Default with { NewLine = "\n" }, leaveOpen: true))
        {
            Row(csv, ["model", "label", "method", "bits", "settings", "protocol", "device", "kernels", "threads", "activation_dtype", .. metrics,
                .. intervals.SelectMany(name => new[] { name + "_low", name + "_high" })]);
            foreach (ResultDocument cell in results.Cells)
            {
                Row(csv, [cell.Model, ReportTable.Label(cell), cell.Method, Text(cell.Bits), DocumentJson.Text(cell.Settings, DocumentJson.Plain), cell.Protocol, cell.Device, cell.Kernels,
                    $"{cell.Threads}", cell.ActivationDtype,
                    .. metrics.Select(name => cell.Metrics.TryGetValue(name, out double value) ? Text(value) : string.Empty),
                    .. intervals.SelectMany(name => cell.Intervals.TryGetValue(name, out double[]? ends) ? ends.Select(end => Text(end)) : [string.Empty, string.Empty])]);
            }
        }

        return text.ToString();
    }

    private static string? Text(double? value) => value?.ToString("R", CultureInfo.InvariantCulture);

    private static void Row(CsvWriter csv, IEnumerable<string?> fields)
    {
        foreach (string? field in fields)
        {
            csv.WriteField(field ?? string.Empty);
        }

        csv.EndRecord();
    }
}
