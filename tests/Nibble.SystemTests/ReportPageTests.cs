using System.Diagnostics;
using System.Text.RegularExpressions;
using Nibble.Evaluation;
using Nibble.Runs.Reports;
using Nibble.Runs.Studies;

namespace Nibble.SystemTests;

/// <summary>The report in a real browser: it draws, sorts, says nothing on the console, and loads nothing.</summary>
public sealed partial class ReportPageTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-report-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [SkippableFact]
    public void Charts_are_drawn_the_table_sorts_and_the_console_stays_empty()
    {
        string? browser = Browsers.Find();
        Skip.If(browser is null, "no Chromium on this machine (apt-get install chromium)");
        (string dom, string console) = Open(browser, withScript: true);
        Assert.True(!Console().IsMatch(console), console);
        Assert.Equal(5 + 3, Regex.Count(dom, "<svg[^>]*(baseProfile|xmlns:xlink)"));
        // The heading "bits" was clicked: ternary first, F32 last.
        string[] labels = [.. Row().Matches(dom[dom.IndexOf("<tbody>", StringComparison.Ordinal)..dom.IndexOf("</tbody>", StringComparison.Ordinal)]).Select(match => match.Groups[1].Value.Trim())];
        Assert.Equal(["ternary", "NF4", "F32"], labels);
        Assert.Contains("aria-sort=\"ascending\"", dom, StringComparison.Ordinal);
        // The page's own policy forbids every request; a style, script or picture from outside would be an error on the console.
        Assert.Contains("default-src 'none'", dom, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Without_script_every_number_is_there()
    {
        string? browser = Browsers.Find();
        Skip.If(browser is null, "no Chromium on this machine (apt-get install chromium)");
        (string dom, string _) = Open(browser, withScript: false);
        Assert.Contains("25,000", dom, StringComparison.Ordinal);
        Assert.Matches("<section class=\"charts\" hidden", dom);
    }

    private (string Dom, string Console) Open(string browser, bool withScript)
    {
        ReportWriter.Write(_folder, Results());
        string path = Path.Combine(_folder, "report.html");
        string page = File.ReadAllText(path);
        page = withScript
            ? page.Replace("</body>", "<script>document.querySelectorAll('#results thead th')[1].click()</script></body>", StringComparison.Ordinal)
            : Script().Replace(page, string.Empty);
        File.WriteAllText(path, page);
        ProcessStartInfo start = new(browser,
        [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run", $"--user-data-dir={Path.Combine(_folder, "profile")}",
            "--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom", new Uri(path).AbsoluteUri,
        ]) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string dom = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (dom, errors.Result);
    }

    private static StudyResults Results()
    {
        ResultDocument Cell(string label, double bits, double perplexity) => new()
        {
            Model = "tiny", Label = label, Method = label, Bits = bits, Task = "perplexity", Device = "cpu", ComputeDtype = "f32", ActivationDtype = "f32", Kernels = "avx2",
            Environment = new MeasuredEnvironment("cpu", 2, null, "0", null, ".NET", "Linux"), Baseline = bits > 8 ? true : null,
            Metrics = new Dictionary<string, double>
            {
                ["perplexity"] = perplexity, ["perplexity_ratio"] = perplexity / 9.5, ["weight_bytes"] = bits * 1e6, ["peak_memory_bytes"] = 1e8, ["decode_tokens_per_second"] = 600, ["energy_joules"] = 30,
            },
            Intervals = new Dictionary<string, double[]> { ["perplexity"] = [perplexity * 0.9, perplexity * 1.1], ["perplexity_ratio"] = [perplexity / 9.6, perplexity / 9.4] },
        };
        return new StudyResults(1, "A <study>", null, true, [Cell("F32", 32, 9.5), Cell("NF4", 4, 9.9), Cell("ternary", 1.58, 25_000)], []);
    }

    [GeneratedRegex("CONSOLE")]
    private static partial Regex Console();

    [GeneratedRegex("<th scope=\"row\">([^<]*)")]
    private static partial Regex Row();

    [GeneratedRegex("<script[^>]*>.*?</script>", RegexOptions.Singleline)]
    private static partial Regex Script();
}
