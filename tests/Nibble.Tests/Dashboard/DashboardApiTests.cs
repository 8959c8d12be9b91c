using System.Net;
using System.Text.Json;
using Dapper;
using Microsoft.AspNetCore.Builder;
using Microsoft.Data.Sqlite;
using Nibble.IO;
using Nibble.Runs;
using Nibble.Server;
using Nibble.Server.Dashboard;

namespace Nibble.Tests.Dashboard;

/// <summary>The documents of the dashboard over stores that are made here.</summary>
public sealed class DashboardApiTests : IAsyncLifetime
{
    private const string Settings = """{"protocol":"window-64-32-raw","data":"a.txt","data_sha256":"aa","tokenizer_sha256":"tt","compute_dtype":"f32","activation_dtype":"f32","device":"cpu","kernels":"avx2","threads":2,"batch":1,"energy_source":"rapl"}""";
    private const string Machine = """{"cpu":"one","cores":2,"os":"Linux","nibble":"0.1.0"}""";
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-dashboard-").FullName;
    private readonly HttpClient _client = new();
    private WebApplication _app = null!;

    private string Database => Path.Combine(_folder, "runs.db");

    public async Task InitializeAsync()
    {
        _app = DashboardServer.Create(new ListenAddress(Port: 0), Database);
        await _app.StartAsync();
        _client.BaseAddress = LocalServer.AddressOf(_app);
    }

    public async Task DisposeAsync()
    {
        _client.Dispose();
        await _app.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task An_empty_store_is_no_error_and_stays_unmade()
    {
        JsonElement list = await Get("/api/runs");
        Assert.Empty(list.GetProperty("runs").EnumerateArray());
        Assert.Equal(Database, list.GetProperty("store").GetString());
        Assert.Equal(HttpStatusCode.NotFound, (await _client.GetAsync("/api/runs/1")).StatusCode);
        Assert.Equal(HttpStatusCode.NotFound, (await _client.GetAsync("/runs/1/report.html")).StatusCode);
        Assert.False(File.Exists(Database));
    }

    [Fact]
    public async Task Runs_are_listed_filtered_and_paged()
    {
        using RunStore store = RunStore.Open(Database);
        long measured = Measured(store, "nf4", 9.5);
        long training = Training(store, steps: 1000, done: 250);
        long other = Measured(store, "<b>rtn</b>", 9.75, model: "other");
        JsonElement list = await Get("/api/runs");
        Assert.Equal([other, training, measured], Ids(list));
        JsonElement running = list.GetProperty("runs")[1];
        Assert.Equal(("running", 250L, 1000L, 0.25), (Text(running, "status"), running.GetProperty("step").GetInt64(), running.GetProperty("steps").GetInt64(), running.GetProperty("progress").GetDouble()));
        // 0.5 s a step.
        Assert.Equal(375, running.GetProperty("seconds_left").GetDouble(), 3);
        Assert.Equal(40, running.GetProperty("course").GetArrayLength());
        JsonElement finished = list.GetProperty("runs")[2];
        Assert.Equal(("9.500", "perplexity"), (Text(finished, "result"), Text(finished, "result_heading")));
        Assert.Equal(["<b>rtn</b>", "lora", "nf4"], list.GetProperty("methods").EnumerateArray().Select(item => item.GetString()));

        Assert.Equal([training], Ids(await Get("/api/runs?kind=finetune")));
        Assert.Equal([other], Ids(await Get("/api/runs?model=other&kind=eval")));
        Assert.Equal([training], Ids(await Get("/api/runs?status=running")));
        Assert.Equal([other], Ids(await Get("/api/runs?text=RTN")));
        JsonElement page = await Get("/api/runs?limit=2");
        Assert.True(page.GetProperty("more").GetBoolean());
        Assert.Equal([measured], Ids(await Get($"/api/runs?limit=2&before={training}")));
        foreach (string wrong in new[] { "limit=0", "limit=x", "limit=501", "before=-1", "status=odd" })
        {
            Assert.Equal(HttpStatusCode.BadRequest, (await _client.GetAsync("/api/runs?" + wrong)).StatusCode);
        }
    }

    [Fact]
    public async Task A_run_has_everything_and_its_curve_grows()
    {
        using RunStore store = RunStore.Open(Database);
        long training = Training(store, steps: 2000, done: 1500);
        store.Replace(training, [new RunArtefact("adapter.safetensors", Path.Combine(_folder, "gone"), 12)]);
        JsonElement run = await Get($"/api/runs/{training}");
        JsonElement loss = Curve(run, "train_loss");
        Assert.Equal((1500, 500), (loss.GetProperty("count").GetInt32(), loss.GetProperty("points").GetArrayLength()));
        Assert.Equal(("lower", 1500L, "training loss, nats/token"), (Text(loss, "better"), loss.GetProperty("last").GetProperty("step").GetInt64(), Text(loss, "heading")));
        Assert.Equal(1500, loss.GetProperty("points")[499][0].GetDouble());
        Assert.Equal(1500, Curve(await Get($"/api/runs/{training}?points=all"), "train_loss").GetProperty("points").GetArrayLength());
        // 0.5 s a step; evaluations have their own steps, none of which need be one of the clock's, nor of those that are left of it.
        store.Add(training, [new RunMetric("heldout_nll", 0, 4), new RunMetric("heldout_nll", 700, 3), new RunMetric("heldout_nll", 1001, 2), new RunMetric("heldout_nll", 1600, 2)]);
        Assert.Equal([0, 350, 500.5, 750], Curve(await Get($"/api/runs/{training}"), "heldout_nll").GetProperty("seconds").EnumerateArray().Select(item => item.GetDouble()));
        Assert.Equal(500, loss.GetProperty("seconds").GetArrayLength());
        Assert.Equal("window-64-32-raw", Text(run.GetProperty("configuration"), "protocol"));
        Assert.Equal("one", Text(run.GetProperty("environment"), "cpu"));
        Assert.False(run.GetProperty("artefacts")[0].GetProperty("exists").GetBoolean());
        Assert.DoesNotContain(run.GetProperty("results").EnumerateArray(), item => Text(item, "name") == "train_loss");

        store.Add(training, [new RunMetric("train_loss", 1501, 0.5)]);
        Assert.Equal(1501, Curve(await Get($"/api/runs/{training}"), "train_loss").GetProperty("count").GetInt32());
        Assert.Equal("0.5000", Text(Curve(await Get($"/api/runs/{training}"), "train_loss").GetProperty("best"), "text"));
        JsonElement measured = await Get($"/api/runs/{Measured(store, "nf4", 9.5)}");
        JsonElement perplexity = measured.GetProperty("results").EnumerateArray().First(item => Text(item, "name") == "perplexity");
        Assert.Equal(("9.500", "9.400 – 9.600", "lower"), (Text(perplexity, "text"), Text(perplexity, "interval"), Text(perplexity, "better")));
    }

    [Fact]
    public async Task What_another_program_put_into_the_file_breaks_nothing()
    {
        using RunStore store = RunStore.Open(Database);
        long odd = store.Start(new NewRun("eval", "m", "x", "no json", "[]"));
        using (SqliteConnection connection = new($"Data Source={Database};Pooling=False"))
        {
            connection.Open();
            connection.Execute("insert into metrics values(@odd, 'perplexity', 0, 9e999, null, null), (@odd, 'unheard', 0, 1.5, null, null)", new { odd });
        }

        Assert.Equal([odd], Ids(await Get("/api/runs")));
        JsonElement run = await Get($"/api/runs/{odd}");
        Assert.Equal(["unheard"], run.GetProperty("results").EnumerateArray().Select(item => Text(item, "name")));
        Assert.Equal(2, (await Get($"/api/compare?ids={odd},{Measured(store, "nf4", 9.5)}")).GetProperty("runs").GetArrayLength());
    }

    [Fact]
    public async Task Only_what_was_measured_alike_is_compared()
    {
        using RunStore store = RunStore.Open(Database);
        long one = Measured(store, "nf4", 9.5), better = Measured(store, "int8", 9.0), near = Measured(store, "rtn", 9.55);
        long protocol = Measured(store, "fp4", 8.0, settings: Settings.Replace("window-64-32-raw", "blocks-64", StringComparison.Ordinal));
        long dtype = Measured(store, "fp4", 8.0, settings: Settings.Replace("\"compute_dtype\":\"f32\"", "\"compute_dtype\":\"bf16\"", StringComparison.Ordinal));
        long host = Measured(store, "fp4", 9.2, machine: Machine.Replace("one", "another", StringComparison.Ordinal));
        long[] ids = [one, better, near, protocol, dtype, host];
        JsonElement compared = await Get($"/api/compare?ids={string.Join(',', ids)}");
        Assert.Equal(one, compared.GetProperty("baseline").GetInt64());
        JsonElement[] perplexity = Values(compared, "perplexity");
        Assert.Equal((null, "better", "overlap"), (Text(perplexity[0], "verdict"), Text(perplexity[1], "verdict"), Text(perplexity[2], "verdict")));
        Assert.Equal("−0.5000 (−5.3 %)", Text(perplexity[1], "difference"));
        Assert.Equal((null, "protocol"), (Text(perplexity[3], "difference"), perplexity[3].GetProperty("not_compared")[0].GetString()));
        Assert.Equal("compute dtype", perplexity[4].GetProperty("not_compared")[0].GetString());
        // Another machine changes no perplexity, and every speed; size depends on nothing.
        Assert.Equal(("better", "better"), (Text(perplexity[5], "verdict"), Text(Values(compared, "weight_bytes")[3], "verdict")));
        JsonElement[] speed = Values(compared, "decode_tokens_per_second");
        Assert.Equal(("better", "processor"), (Text(speed[1], "verdict"), speed[5].GetProperty("not_compared")[0].GetString()));
        Assert.Equal(["protocol", "compute dtype", "processor"], compared.GetProperty("conditions").EnumerateArray().Where(item => item.GetProperty("differs").GetBoolean()).Select(item => Text(item, "name")));
        JsonElement scatter = compared.GetProperty("scatter");
        Assert.Equal([one, better, near, host], scatter.GetProperty("points").EnumerateArray().Select(point => point.GetProperty("id").GetInt64()));
        Assert.Equal([protocol, dtype], scatter.GetProperty("left_out").EnumerateArray().Select(item => item.GetProperty("id").GetInt64()));

        JsonElement turned = await Get($"/api/compare?ids={one},{better}&baseline={better}");
        Assert.Equal("worse", Text(Values(turned, "perplexity")[0], "verdict"));
        foreach (string wrong in new[] { "ids=1", "ids=1,x", "ids=1,2&baseline=3", string.Empty })
        {
            Assert.Equal(HttpStatusCode.BadRequest, (await _client.GetAsync("/api/compare?" + wrong)).StatusCode);
        }

        Assert.Equal(HttpStatusCode.NotFound, (await _client.GetAsync("/api/compare?ids=1,999")).StatusCode);
    }

    [Fact]
    public async Task Cells_of_a_study_are_judged_by_their_paired_interval()
    {
        using RunStore store = RunStore.Open(Database);
        string cell = Settings.Insert(1, "\"study\":\"s\",");
        long baseline = Measured(store, "none", 9.5, settings: cell.Insert(1, "\"baseline\":true,"), kind: "compare", output: "/out");
        long worse = Measured(store, "int8", 9.52, settings: cell.Replace("\"activation_dtype\":\"f32\"", "\"activation_dtype\":\"int8\"", StringComparison.Ordinal), kind: "compare", output: "/out");
        store.Add(worse, [new RunMetric("perplexity_ratio", 0, 1.002, 1.001, 1.003)]);
        JsonElement value = Values(await Get($"/api/compare?ids={baseline},{worse}"), "perplexity")[1];
        Assert.Equal(("worse", true), (Text(value, "verdict"), value.GetProperty("paired").GetBoolean()));
    }

    [Fact]
    public async Task Trainings_are_compared_by_curves_and_a_different_text_is_said()
    {
        using RunStore store = RunStore.Open(Database);
        long one = Training(store, 100, 50), two = Training(store, 100, 60), apart = Training(store, 100, 60, Settings.Replace("\"aa\"", "\"bb\"", StringComparison.Ordinal));
        JsonElement compared = await Get($"/api/compare?ids={one},{two},{apart}");
        JsonElement loss = compared.GetProperty("curves").EnumerateArray().First(curve => Text(curve, "name") == "train_loss");
        Assert.Equal([false, false, true], loss.GetProperty("series").EnumerateArray().Select(series => series.TryGetProperty("not_compared", out _)));
        Assert.Equal("training loss, nats/token, newest", compared.GetProperty("metrics").EnumerateArray().Select(metric => Text(metric, "heading")).First(heading => heading!.StartsWith("training loss", StringComparison.Ordinal)));
        Assert.Equal("better", Text(Values(compared, "train_loss")[1], "verdict"));
    }

    [Fact]
    public async Task Only_a_recorded_report_is_served_and_it_can_ask_for_nothing_here()
    {
        string report = Path.Combine(_folder, "study", "report.html"), secret = Path.Combine(_folder, "secret.txt");
        Directory.CreateDirectory(Path.GetDirectoryName(report)!);
        File.WriteAllText(report, "<p>the report</p>");
        File.WriteAllText(secret, "secret");
        Directory.CreateDirectory(Path.Combine(_folder, "linked"));
        File.CreateSymbolicLink(Path.Combine(_folder, "linked", "report.html"), secret);
        using RunStore store = RunStore.Open(Database);
        long good = Measured(store, "nf4", 9), other = Measured(store, "nf4", 9), wrong = Measured(store, "nf4", 9), relative = Measured(store, "nf4", 9), linked = Measured(store, "nf4", 9);
        store.Replace(good, [new RunArtefact("report.html", report, 17)]);
        store.Replace(other, [new RunArtefact("results.json", secret, 6)]);
        store.Replace(wrong, [new RunArtefact("report.html", secret, 6)]);
        store.Replace(relative, [new RunArtefact("report.html", "report.html", 6)]);
        store.Replace(linked, [new RunArtefact("report.html", Path.Combine(_folder, "linked", "report.html"), 6)]);
        using HttpResponseMessage served = await _client.GetAsync($"/runs/{good}/report.html");
        Assert.Equal("<p>the report</p>", await served.Content.ReadAsStringAsync());
        Assert.StartsWith("sandbox allow-scripts;", Assert.Single(served.Headers.GetValues("Content-Security-Policy")), StringComparison.Ordinal);
        Assert.Equal($"/runs/{good}/report.html", Text(await Get($"/api/runs/{good}"), "report"));
        foreach (string path in new[] { $"/runs/{other}/report.html", $"/runs/{wrong}/report.html", $"/runs/{relative}/report.html", $"/runs/{linked}/report.html", $"/runs/{good}/secret.txt", $"/runs/{good}/..%2F..%2Fsecret.txt", "/assets/..%2Fsecret.txt", "/runs/99/report.html" })
        {
            using HttpResponseMessage refused = await _client.GetAsync(path);
            Assert.Equal(HttpStatusCode.NotFound, refused.StatusCode);
            Assert.DoesNotContain("secret\n", await refused.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        }

        File.Delete(report);
        Assert.Equal(HttpStatusCode.NotFound, (await _client.GetAsync($"/runs/{good}/report.html")).StatusCode);
        Assert.Null(Text(await Get($"/api/runs/{good}"), "report"));
    }

    [Fact]
    public async Task It_only_reads_and_everything_comes_from_here()
    {
        using RunStore store = RunStore.Open(Database);
        long run = Measured(store, "nf4", 9);
        foreach (HttpMethod method in new[] { HttpMethod.Post, HttpMethod.Put, HttpMethod.Delete, HttpMethod.Patch })
        {
            foreach (string path in new[] { "/", "/api/runs", $"/api/runs/{run}" })
            {
                using HttpResponseMessage refused = await _client.SendAsync(new HttpRequestMessage(method, path));
                Assert.Equal(HttpStatusCode.MethodNotAllowed, refused.StatusCode);
            }
        }

        using HttpResponseMessage page = await _client.GetAsync("/");
        string policy = Assert.Single(page.Headers.GetValues("Content-Security-Policy"));
        Assert.Contains("default-src 'none'; script-src 'self';", policy, StringComparison.Ordinal);
        Assert.Contains("frame-ancestors 'none'", policy, StringComparison.Ordinal);
        string html = await page.Content.ReadAsStringAsync();
        Assert.DoesNotMatch("(src|href)=\"(https?:)?//", html);
        Assert.DoesNotMatch("<script(?![^>]* src=)", html);
        foreach (string name in System.Text.RegularExpressions.Regex.Matches(html, "\"(/assets/[^\"]+)\"").Select(match => match.Groups[1].Value).Append("/assets/echarts.js"))
        {
            using HttpResponseMessage asset = await _client.GetAsync(name);
            Assert.True(asset.IsSuccessStatusCode, name);
            Assert.NotEmpty(await asset.Content.ReadAsByteArrayAsync());
        }

        using HttpRequestMessage shouted = new(HttpMethod.Get, "/"), rebound = new(HttpMethod.Get, "/api/runs");
        shouted.Headers.Host = "LocalHost:1";
        using HttpResponseMessage own = await _client.SendAsync(shouted);
        Assert.Equal(HttpStatusCode.OK, own.StatusCode);
        rebound.Headers.Host = "evil.example";
        using HttpResponseMessage foreign = await _client.SendAsync(rebound);
        Assert.Equal(HttpStatusCode.MisdirectedRequest, foreign.StatusCode);
    }

    [Fact]
    public async Task The_machine_and_a_store_that_cannot_be_read_say_what_they_are()
    {
        JsonElement machine = await Get("/api/machine");
        Assert.Equal("cpu", Text(machine.GetProperty("devices")[0], "device"));
        Assert.Contains(machine.GetProperty("findings").EnumerateArray(), finding => Text(finding, "check") == "runtime" && Text(finding, "state") == "ok");
        File.WriteAllText(Database, new string('x', 5000));
        using HttpResponseMessage broken = await _client.GetAsync("/api/runs");
        Assert.Equal(HttpStatusCode.InternalServerError, broken.StatusCode);
        Assert.Contains("cannot be opened", await broken.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        using HttpResponseMessage report = await _client.GetAsync("/runs/1/report.html");
        Assert.Equal(HttpStatusCode.InternalServerError, report.StatusCode);
        Assert.Contains("cannot be opened", await report.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("999.1.1.1", 80)]
    [InlineData("127.0.0.1", 70_000)]
    public void An_address_that_is_none_is_refused(string host, int port) =>
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => DashboardServer.Create(new ListenAddress(host, port), Database)).Kind);

    private async Task<JsonElement> Get(string path)
    {
        using HttpResponseMessage answer = await _client.GetAsync(path);
        string text = await answer.Content.ReadAsStringAsync();
        Assert.True(answer.IsSuccessStatusCode, text);
        Assert.Equal("application/json", answer.Content.Headers.ContentType!.MediaType);
        return JsonDocument.Parse(text).RootElement;
    }

    private static long Measured(RunStore store, string method, double perplexity, string model = "tiny", string settings = Settings, string machine = Machine, string kind = "eval", string? output = null)
    {
        long run = store.Start(new NewRun(kind, model, method, settings, machine) { Output = output });
        store.Add(run, [new RunMetric("perplexity", 0, perplexity, perplexity - 0.1, perplexity + 0.1), new RunMetric("weight_bytes", 0, 1e6 * perplexity), new RunMetric("decode_tokens_per_second", 0, 1000 / perplexity), new RunMetric("scored_tokens", 0, 100)]);
        store.Finish(run, RunEnd.Finished);
        return run;
    }

    private static long Training(RunStore store, int steps, int done, string settings = Settings)
    {
        long run = store.Start(new NewRun("finetune", "tiny", "lora", settings, Machine));
        store.Add(run, [new RunMetric("planned_steps", 0, steps), .. Enumerable.Range(1, done).SelectMany(step => new[] { new RunMetric("train_loss", step, 4 - (0.001 * step)), new RunMetric("elapsed_seconds", step, 0.5 * step) })]);
        store.Beat(run, (double)done / steps);
        return run;
    }

    private static long[] Ids(JsonElement list) => [.. list.GetProperty("runs").EnumerateArray().Select(run => run.GetProperty("id").GetInt64())];

    private static string? Text(JsonElement element, string name) => element.TryGetProperty(name, out JsonElement value) ? value.GetString() : null;

    private static JsonElement Curve(JsonElement run, string name) => run.GetProperty("curves").EnumerateArray().First(curve => Text(curve, "name") == name);

    private static JsonElement[] Values(JsonElement compared, string name) => [.. compared.GetProperty("metrics").EnumerateArray().First(metric => Text(metric, "name") == name).GetProperty("values").EnumerateArray()];
}
