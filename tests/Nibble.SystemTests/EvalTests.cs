using System.Text.Json;
using Nibble.IO;

namespace Nibble.SystemTests;

/// <summary><c>nibble eval</c> as a user runs it, on an embedded model.</summary>
public sealed class EvalTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-eval-").FullName;
    private readonly string _model = AssetFolder.Find("assets/nibble-llama-4m");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_document_of_a_quantized_model()
    {
        string text = Path.Combine(_folder, "text.txt");
        File.WriteAllText(text, string.Concat(Enumerable.Repeat("def add(a, b):\n    \"\"\"Add two numbers.\"\"\"\n    return a + b\n\n\n", 60)));
        CliResult result = Cli.Run(
            "eval", _model, "--tasks", "perplexity,latency", "--data", text, "--window", "64", "--stride", "32", "--limit", "500", "--method", "nf4", "--double-quant",
            "--prompt-tokens", "16", "--decode-tokens", "4", "--runs", "3", "--country", "France", "--json");
        Assert.True(result.ExitCode == 0, result.Errors);
        JsonElement document = result.Json;
        Assert.Equal(1, document.GetProperty("schema").GetInt32());
        Assert.Equal(("nibble-llama-4m", "nf4", 4), (document.GetProperty("model").GetString(), document.GetProperty("method").GetString(), document.GetProperty("bits").GetInt32()));
        Assert.True(document.GetProperty("settings").GetProperty("double_quant").GetBoolean());
        Assert.Equal("window-64-32-raw", document.GetProperty("protocol").GetString());
        Assert.Equal("f32", document.GetProperty("activation_dtype").GetString());
        JsonElement metrics = document.GetProperty("metrics");
        Assert.Equal(499, metrics.GetProperty("scored_tokens").GetInt32());
        Assert.InRange(metrics.GetProperty("bits_per_weight").GetDouble(), 4.1, 4.3);
        foreach (string name in new[]
        {
            "perplexity", "nll", "bits_per_byte", "weight_bytes", "peak_memory_bytes", "ttft_ms", "decode_tokens_per_second", "prefill_tokens_per_second",
            "quantization_seconds", "evaluation_seconds", "energy_joules", "co2eq_grams",
        })
        {
            Assert.True(metrics.GetProperty(name).GetDouble() > 0, name);
        }

        Assert.False(metrics.TryGetProperty("kl", out _));
        Assert.False(metrics.TryGetProperty("file_bytes", out _));
        JsonElement interval = document.GetProperty("intervals").GetProperty("perplexity");
        Assert.InRange(metrics.GetProperty("perplexity").GetDouble(), interval[0].GetDouble(), interval[1].GetDouble());
        Assert.Equal(JsonValueKind.Null, document.GetProperty("environment").GetProperty("gpu").ValueKind);
    }

    [Fact]
    public void A_gguf_file_is_measured_like_the_folder_it_came_from()
    {
        string file = Path.Combine(_folder, "model.gguf");
        CliResult made = Cli.Run("convert", _model, file, "--type", "bf16");
        Assert.True(made.ExitCode == 0, made.Errors);
        string[] common = ["--tasks", "perplexity", "--window", "64", "--limit", "300", "--json"];
        JsonElement folder = Cli.Run(["eval", _model, .. common]).Json.GetProperty("metrics"), metrics = Cli.Run(["eval", file, .. common]).Json.GetProperty("metrics");
        Assert.Equal(folder.GetProperty("nll").GetDouble(), metrics.GetProperty("nll").GetDouble());
        Assert.Equal(new FileInfo(file).Length, metrics.GetProperty("file_bytes").GetInt64());
    }

    [Fact]
    public void Products_in_bf16_are_named_and_stay_near_f32()
    {
        string[] common = ["eval", _model, "--tasks", "perplexity", "--window", "64", "--limit", "300", "--device", "cpu", "--json"];
        JsonElement half = Cli.Run([.. common, "--activations", "bf16"]).Json, single = Cli.Run(common).Json;
        Assert.Equal(("bf16", "bf16"), (half.GetProperty("activation_dtype").GetString(), half.GetProperty("compute_dtype").GetString()));
        Assert.Equal(("f32", "f32"), (single.GetProperty("activation_dtype").GetString(), single.GetProperty("compute_dtype").GetString()));
        double rounded = half.GetProperty("metrics").GetProperty("nll").GetDouble(), exact = single.GetProperty("metrics").GetProperty("nll").GetDouble();
        Assert.NotEqual(exact, rounded);
        Assert.Equal(exact, rounded, 0.02);
    }

    [Fact]
    public void A_baseline_is_written_once_and_others_are_compared_with_it()
    {
        string baseline = Path.Combine(_folder, "baseline");
        string[] common = ["eval", _model, "--tasks", "perplexity", "--window", "64", "--limit", "300", "--json"];
        CliResult saved = Cli.Run([.. common, "--dtype", "f32", "--save-baseline", baseline]);
        Assert.True(saved.ExitCode == 0, saved.Errors);
        Assert.Equal(299L * 8192 * 2, new FileInfo(Path.Combine(baseline, "logits.f16")).Length);

        // BF16 is what the file holds, so F32 computes with the same weights: nothing may differ but rounding of the stored logits.
        JsonElement same = Cli.Run([.. common, "--dtype", "bf16", "--baseline", baseline]).Json.GetProperty("metrics");
        Assert.InRange(same.GetProperty("kl").GetDouble(), 0, 1e-4);
        Assert.InRange(same.GetProperty("perplexity_ratio").GetDouble(), 0.999, 1.001);
        JsonElement worse = Cli.Run([.. common, "--method", "rtn", "--bits", "2", "--baseline", baseline]).Json.GetProperty("metrics");
        Assert.InRange(worse.GetProperty("kl").GetDouble(), 0.1, 20);
        Assert.InRange(worse.GetProperty("top1_agreement").GetDouble(), 0, 0.9);

        CliResult other = Cli.Run(["eval", _model, "--tasks", "perplexity", "--window", "128", "--limit", "300", "--json", "--baseline", baseline]);
        Assert.Equal(3, other.ExitCode);
        Assert.Contains("was measured on something else", other.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void What_a_tuning_cost_is_told_beside_its_base()
    {
        JsonElement document = Cli.Run("eval", _model, "--method", "rtn", "--bits", "3", "--before", _model, "--tasks", "perplexity", "--window", "64", "--limit", "300", "--json").Json;
        JsonElement metrics = document.GetProperty("metrics");
        Assert.Equal(_model, document.GetProperty("before").GetString());
        double before = metrics.GetProperty("nll_before").GetDouble(), after = metrics.GetProperty("nll").GetDouble();
        Assert.True(after > before, $"{before} -> {after}");
        Assert.Equal(after - before, metrics.GetProperty("nll_delta").GetDouble(), 1e-6);
        Assert.True(metrics.GetProperty("kl").GetDouble() > 0);

        CliResult both = Cli.Run("eval", _model, "--before", _model, "--baseline", _folder, "--tasks", "perplexity");
        Assert.Equal(2, both.ExitCode);
        Assert.Contains("--before cannot be used here", both.Errors, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(4, "--data", "missing.txt")]
    [InlineData(2, "--tasks", "nonsense")]
    [InlineData(2, "--window", "100000")]
    [InlineData(2, "--country", "Atlantis")]
    [InlineData(2, "--method", "nf5")]
    [InlineData(3, "--limit", "1")]
    public void Mistakes_have_their_exit_codes(int code, string option, string value)
    {
        CliResult result = Cli.Run(["eval", _model, .. option == "--tasks" ? Array.Empty<string>() : ["--tasks", "perplexity"], option, value, "--json"]);
        Assert.True(result.ExitCode == code, $"{result.ExitCode}: {result.Errors}");
        Assert.Empty(result.Output);
        Assert.StartsWith("error: ", result.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void Runs_are_recorded_and_energy_comes_from_counters_where_there_are_any()
    {
        string zone = Directory.CreateDirectory(Path.Combine(_folder, "powercap", "intel-rapl:0")).FullName;
        File.WriteAllText(Path.Combine(zone, "name"), "package-0\n");
        File.WriteAllText(Path.Combine(zone, "max_energy_range_uj"), "1000000000\n");
        File.WriteAllText(Path.Combine(zone, "energy_uj"), "5\n");
        Dictionary<string, string> environment = new() { ["NIBBLE_RUNS"] = Path.Combine(_folder, "runs.db"), ["NIBBLE_POWERCAP"] = Path.Combine(_folder, "powercap") };
        CliResult result = Cli.RunWith(environment, "eval", _model, "--tasks", "perplexity", "--window", "64", "--limit", "200", "--json");
        Assert.True(result.ExitCode == 0, result.Errors);
        Assert.Equal("rapl", result.Json.GetProperty("energy_source").GetString());
        Assert.Equal(0, result.Json.GetProperty("metrics").GetProperty("energy_joules").GetDouble());

        JsonElement run = Assert.Single(Cli.RunWith(environment, "runs", "--json").Json.GetProperty("runs").EnumerateArray());
        Assert.Equal(("eval", "finished"), (run.GetProperty("kind").GetString(), run.GetProperty("status").GetString()));
        JsonElement shown = Cli.RunWith(environment, "runs", "1", "--json").Json;
        Assert.Contains(shown.GetProperty("metrics").EnumerateArray(), metric => metric.GetProperty("name").GetString() == "perplexity");
        Assert.Equal(4, Cli.RunWith(environment, "runs", "7").ExitCode);
    }
}
