using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Nibble.Runs;
using Nibble.Server;
using Nibble.Server.Dashboard;

namespace Nibble.SystemTests;

/// <summary>The dashboard as people use it: the command, a training that goes on meanwhile, the page in a real browser.</summary>
public sealed partial class DashboardTests : IDisposable
{
    private const string Hostile = "<img src=x onerror=\"console.error('run')\"><script>console.error('script')</script>";
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-dashboard-").FullName;

    private string Store => Path.Combine(_folder, "runs.db");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task A_training_grows_while_it_is_looked_at()
    {
        TinyModel.Write(Path.Combine(_folder, "model"));
        File.WriteAllLines(Path.Combine(_folder, "data.txt"), Enumerable.Range(0, 60).Select(i => $"line {i} of the text, {i * i} and more"));
        using Process dashboard = Start("dashboard", "--port", "0");
        string line = await dashboard.StandardError.ReadLineAsync() ?? string.Empty;
        using HttpClient client = new() { BaseAddress = new Uri(Address().Match(line).Value) };
        using Process training = Start(
            "finetune", Path.Combine(_folder, "model"), "--data", Path.Combine(_folder, "data.txt"), "--rank", "2", "--batch-size", "2", "--max-seq-length", "16", "--max-steps", "1000000", "--threads", "1", "-o", Path.Combine(_folder, "tuned"));
        Task drained = training.StandardError.ReadToEndAsync();
        List<long> seen = [];
        for (int i = 0; i < 300 && seen.Count < 4; i++)
        {
            await Task.Delay(200);
            JsonElement runs = (await Get(client, "/api/runs?status=running")).GetProperty("runs");
            if (runs.GetArrayLength() > 0 && runs[0].TryGetProperty("step", out JsonElement step) && step.GetInt64() > seen.LastOrDefault())
            {
                seen.Add(step.GetInt64());
            }
        }

        Assert.Equal(4, seen.Count);
        JsonElement running = await Get(client, "/api/runs/1");
        Assert.Contains(running.GetProperty("curves").EnumerateArray(), curve => curve.GetProperty("name").GetString() == "train_loss");
        training.Kill();
        await training.WaitForExitAsync();
        await drained;
        Assert.Equal("lost", (await Get(client, "/api/runs/1")).GetProperty("run").GetProperty("status").GetString());
        Assert.Equal(0, await End(dashboard, "TERM"));
    }

    [SkippableFact]
    public async Task Ctrl_C_ends_it_and_a_taken_port_is_said()
    {
        Interruptions.SkipIfIgnored();
        using Process dashboard = Start("dashboard", "--port", "0");
        string line = await dashboard.StandardError.ReadLineAsync() ?? string.Empty;
        CliResult second = Cli.RunWith(new Dictionary<string, string> { ["NIBBLE_RUNS"] = Store }, "dashboard", "--port", $"{new Uri(Address().Match(line).Value).Port}");
        Assert.Equal(5, second.ExitCode);
        Assert.Contains("--port", second.Errors, StringComparison.Ordinal);
        Assert.Equal(130, await End(dashboard, "INT"));
    }

    [Fact]
    public void A_store_that_is_off_is_said() => Assert.Equal(2, Cli.Run("dashboard", "--port", "0").ExitCode);

    [SkippableFact]
    public async Task The_list_shows_names_as_text_and_the_console_stays_empty()
    {
        string dom = await Open("/", Fill);
        Assert.Contains("&lt;script&gt;", dom, StringComparison.Ordinal);
        Assert.DoesNotContain("<img", dom, StringComparison.Ordinal);
        Assert.Equal(4, Regex.Count(dom, "<input type=\"checkbox\""));
        Assert.Contains("4 runs, 1 running", dom, StringComparison.Ordinal);
        Assert.Contains("<svg class=\"spark\"", dom, StringComparison.Ordinal);
        Assert.Contains("aria-sort=\"descending\"", dom, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task A_filter_and_an_order_stand_in_the_address()
    {
        string dom = await Open("/#/?kind=eval&sort=method&down=0", Fill);
        Assert.Equal(["1", "2"], RunLink().Matches(dom).Select(match => match.Groups[1].Value));
        Assert.Contains("2 runs", dom, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task A_run_has_curves_results_and_files()
    {
        string dom = await Open("/#/run/3", Fill);
        Assert.True(Regex.Count(dom, "<svg[^>]*(baseProfile|xmlns:xlink)") >= 2, dom);
        Assert.Contains("training loss and held-out loss, nats/token", dom, StringComparison.Ordinal);
        Assert.Contains("step 50 of 100", dom, StringComparison.Ordinal);
        Assert.Contains("max_seq_length", dom, StringComparison.Ordinal);
        string measured = await Open("/#/run/1", Fill, again: true);
        Assert.Contains("9.400 – 9.600", measured, StringComparison.Ordinal);
        Assert.Contains("href=\"/runs/1/report.html\"", measured, StringComparison.Ordinal);
        Assert.DoesNotContain("<img", measured, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Runs_side_by_side_say_what_is_not_compared()
    {
        string dom = await Open("/#/compare/1,2", Fill);
        Assert.Contains("not compared: protocol differs", dom, StringComparison.Ordinal);
        Assert.Contains("Not all numbers of quality can be compared", dom, StringComparison.Ordinal);
        Assert.DoesNotContain("<img", dom, StringComparison.Ordinal);
        string trainings = await Open("/#/compare/3,4", Fill, again: true);
        Assert.Matches("<svg[^>]*(baseProfile|xmlns:xlink)", trainings);
        Assert.DoesNotContain("<img", trainings, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task An_empty_store_says_what_to_run()
    {
        string dom = await Open("/", () => { });
        Assert.Contains("nibble demo", dom, StringComparison.Ordinal);
        Assert.Contains("Nothing was recorded yet", dom, StringComparison.Ordinal);
        Assert.False(File.Exists(Store));
        Assert.Contains("instruction sets", await Open("/#/machine", () => { }, again: true), StringComparison.Ordinal);
    }

    private void Fill()
    {
        using RunStore store = RunStore.Open(Store);
        string report = Path.Combine(_folder, "report.html");
        File.WriteAllText(report, "<p>report</p>");
        foreach ((string method, string protocol) in new[] { (Hostile, "window"), ("nf4", "blocks") })
        {
            long run = store.Start(new NewRun("eval", Hostile, method, JsonSerializer.Serialize(new { protocol, note = Hostile, label = Hostile + method }), JsonSerializer.Serialize(new { cpu = Hostile })));
            store.Add(run, [new RunMetric("perplexity", 0, 9.5, 9.4, 9.6), new RunMetric("weight_bytes", 0, 1e6), new RunMetric(Hostile, 0, 1)]);
            store.Replace(run, [new RunArtefact("report.html", report, 13), new RunArtefact(Hostile, "/" + Hostile, 1)]);
            store.Finish(run, RunEnd.Finished, Hostile);
        }

        for (int i = 0; i < 2; i++)
        {
            long run = store.Start(new NewRun("finetune", Hostile, "lora", """{"settings":{"max_seq_length":16}}""", "{}") { Output = "/" + Hostile });
            store.Add(run, [new RunMetric("planned_steps", 0, 100), new RunMetric("heldout_nll", 0, 4), new RunMetric("heldout_nll", 50, 3), .. Enumerable.Range(1, 50).SelectMany(step => new[] { new RunMetric("train_loss", step, 4 - (0.01 * step)), new RunMetric("learning_rate", step, 1e-3), new RunMetric(Hostile, step, step), new RunMetric("elapsed_seconds", step, step) })]);
            store.Beat(run, 0.5);
            if (i == 1)
            {
                store.Finish(run, RunEnd.Failed, Hostile);
            }
        }
    }

    /// <summary>The page as a browser has it after some seconds; anything that it says on the console fails the test.</summary>
    private async Task<string> Open(string place, Action fill, bool again = false)
    {
        string? browser = Browsers.Find();
        Skip.If(browser is null, "no Chromium on this machine (apt-get install chromium)");
        if (!again)
        {
            fill();
        }

        await using WebApplication app = DashboardServer.Create(new ListenAddress(Port: 0), Store);
        await app.StartAsync();
        ProcessStartInfo start = new(browser,
        [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run", $"--user-data-dir={Path.Combine(_folder, "profile")}",
            "--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom", new Uri(LocalServer.AddressOf(app), place).AbsoluteUri,
        ]) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string dom = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.DoesNotContain("CONSOLE", await errors, StringComparison.Ordinal);
        return dom;
    }

    private Process Start(params string[] arguments)
    {
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), .. arguments]) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.Environment["NIBBLE_RUNS"] = Store;
        return Process.Start(start)!;
    }

    private static async Task<int> End(Process process, string signal)
    {
        using (Process kill = Process.Start("kill", [$"-{signal}", $"{process.Id}"]))
        {
            await kill.WaitForExitAsync();
        }

        using CancellationTokenSource patience = new(TimeSpan.FromSeconds(30));
        await process.WaitForExitAsync(patience.Token);
        return process.ExitCode;
    }

    private static async Task<JsonElement> Get(HttpClient client, string path) => JsonDocument.Parse(await client.GetStringAsync(path)).RootElement;

    [GeneratedRegex(@"http://127\.0\.0\.1:\d+/")]
    private static partial Regex Address();

    [GeneratedRegex("<a href=\"#/run/(\\d+)\"")]
    private static partial Regex RunLink();
}
