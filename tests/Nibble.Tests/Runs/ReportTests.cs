using System.Text.Json;
using System.Xml.Linq;
using Nibble.Evaluation;
using Nibble.Runs.Reports;
using Nibble.Runs.Studies;

namespace Nibble.Tests.Runs;

public class ReportTests
{
    internal static StudyResults Sample()
    {
        MeasuredEnvironment environment = new("A <Processor> & more", 2, null, "0.1.0", "abc", ".NET 10", "Linux");
        ResultDocument Cell(string label, string method, double bits, double ppl, double bytes, double speed, bool baseline = false) => new()
        {
            Model = "tiny", Label = label, Method = method, Bits = bits, Task = "perplexity", Tasks = ["perplexity", "latency"], Protocol = "window-512-256-raw", Data = "demo",
            Device = "cpu", ComputeDtype = "f32", ActivationDtype = "f32", Kernels = "avx2", Threads = 2, Baseline = baseline ? true : null, Environment = environment, EnergySource = "estimate",
            Metrics = new Dictionary<string, double>
            {
                ["perplexity"] = ppl, ["weight_bytes"] = bytes, ["peak_memory_bytes"] = bytes + 6e7, ["decode_tokens_per_second"] = speed, ["energy_joules"] = 30, ["scored_tokens"] = 20479,
                ["perplexity_ratio"] = ppl / 9.5,
            },
            Intervals = new Dictionary<string, double[]> { ["perplexity"] = [ppl * 0.95, ppl * 1.05], ["perplexity_ratio"] = [ppl / 9.505, ppl / 9.495], ["decode_tokens_per_second"] = [speed - 20, speed + 10] },
        };
        return new StudyResults(1, "A study </script><script>alert(1)</script>", "Of one model.", false,
        [
            Cell("F32", "none", 32, 9.5, 40e6, 600, baseline: true), Cell("BF16", "none", 16, 9.501, 20e6, 640), Cell("LLM.int8", "int8", 8, 9.51, 12e6, 650),
            Cell("NF4", "nf4", 4, 9.68, 8.5e6, 700), Cell("RTN 4 bit", "rtn", 4, 9.9, 8.6e6, 710), Cell("RTN 3 bit", "rtn", 3, 11.5, 7.5e6, 690), Cell("ternary", "ternary", 1.58, 25_000, 6.2e6, 720),
        ],
        [new CellFailure("tiny", "HQQ", "hqq", 3, "error: it <failed>", "nibble eval tiny --method=hqq")]);
    }

    [Theory]
    [InlineData(0.5, "0.500")]
    [InlineData(9.4857, "9.49")]
    [InlineData(123.4, "123")]
    [InlineData(25000, "25,000")]
    [InlineData(0.000421, "0.000421")]
    [InlineData(-0.0123, "-0.0123")]
    [InlineData(0, "0")]
    public void Numbers_have_three_significant_digits(double value, string text) => Assert.Equal(text, ReportTable.Significant(value, 3));

    [Fact]
    public void Pareto_front_of_a_worked_example()
    {
        // (3, 2) is beaten by (2, 2), (4, 5) by all; equal points count once.
        (double, double)[] points = [(4, 1), (3, 2), (1, 5), (2, 2), (4, 5), (1, 5)];
        Assert.Equal([2, 3, 0], ParetoFront.Of(points));
        Assert.Equal(["F32", "BF16", "LLM.int8", "NF4", "RTN 3 bit", "ternary"], HtmlReport.Front(Sample().Cells).Select(cell => cell.Label).OrderBy(label => Array.IndexOf(["F32", "BF16", "LLM.int8", "NF4", "RTN 3 bit", "ternary"], label)));
    }

    [Fact]
    public void Findings_follow_from_the_numbers()
    {
        Finding[] findings = [.. Findings.Of(Sample().Cells)];
        Assert.Equal(["NF4", "NF4", "RTN 4 bit"], findings.Select(finding => finding.Answer));
        Assert.Contains("8.5 MB", findings[0].Reason, StringComparison.Ordinal);
        Assert.Contains("× 1.18 of the baseline", findings[2].Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void The_table_of_the_page_is_well_formed_and_has_every_cell_and_number()
    {
        string page = HtmlReport.Create(Sample());
        string table = page[page.IndexOf("<table id=\"results\">", StringComparison.Ordinal)..];
        table = table[..(table.IndexOf("</table>", StringComparison.Ordinal) + 8)];
        XElement parsed = XElement.Parse(table);
        XElement[] rows = [.. parsed.Element("tbody")!.Elements("tr")];
        Assert.Equal(7, rows.Length);
        int columns = parsed.Element("thead")!.Element("tr")!.Elements().Count();
        Assert.All(rows, row => Assert.Equal(columns, row.Elements().Count()));
        Assert.Contains("9.680", rows[3].Value, StringComparison.Ordinal);
        Assert.Contains("25,000", rows[6].Value, StringComparison.Ordinal);
        Assert.Contains("◆", rows[3].Value, StringComparison.Ordinal);
        Assert.DoesNotContain("◆", rows[4].Value, StringComparison.Ordinal);
    }

    [Fact]
    public void The_page_needs_nothing_else_and_nothing_ends_its_script()
    {
        string page = HtmlReport.Create(Sample());
        Assert.DoesNotContain("<script>alert", page, StringComparison.Ordinal);
        Assert.DoesNotContain("<link", page, StringComparison.Ordinal);
        Assert.DoesNotContain("src=", page.Replace("data:", string.Empty, StringComparison.Ordinal)[..2000], StringComparison.Ordinal);
        Assert.DoesNotContain("{{", page[..3000], StringComparison.Ordinal);
        Assert.Contains("it &lt;failed&gt;", page, StringComparison.Ordinal);
        int start = page.IndexOf("id=\"data\">", StringComparison.Ordinal) + 10;
        using JsonDocument data = JsonDocument.Parse(page[start..page.IndexOf("</script>", start, StringComparison.Ordinal)]);
        Assert.Equal(7, data.RootElement.GetProperty("cells").GetArrayLength());
        Assert.InRange(page.Length, 500_000, 900_000);
    }

    [Fact]
    public void Csv_and_markdown_have_every_cell()
    {
        string[] csv = ReportWriter.Csv(Sample()).TrimEnd('\n').Split('\n');
        Assert.Equal(8, csv.Length);
        Assert.StartsWith("model,label,method,bits,settings,protocol,device,kernels,threads,activation_dtype,perplexity,", csv[0], StringComparison.Ordinal);
        Assert.Contains("perplexity_low,perplexity_high", csv[0], StringComparison.Ordinal);
        Assert.StartsWith("tiny,NF4,nf4,4,{},window-512-256-raw,cpu,avx2,2,f32,9.68,", csv[4], StringComparison.Ordinal);
        string markdown = MarkdownReport.Create(Sample());
        Assert.Contains("| NF4 | 9.680 (9.196 – 10.16)", markdown, StringComparison.Ordinal);
        Assert.Contains("**Failed:** tiny, HQQ (exit code 3)", markdown, StringComparison.Ordinal);
    }

    [Fact]
    public void Results_keep_what_was_not_measured_absent()
    {
        string json = JsonSerializer.Serialize(Sample(), ResultDocument.JsonOptions);
        using JsonDocument document = JsonDocument.Parse(json);
        JsonElement cell = document.RootElement.GetProperty("cells")[1];
        Assert.False(cell.GetProperty("metrics").TryGetProperty("kl", out _));
        Assert.False(cell.TryGetProperty("baseline", out _));
        Assert.Equal(JsonValueKind.Null, cell.GetProperty("environment").GetProperty("gpu").ValueKind);
        StudyResults read = JsonSerializer.Deserialize<StudyResults>(json, ResultDocument.JsonOptions)!;
        Assert.Equal(9.68, read.Cells[3].Metrics["perplexity"]);
    }
}
