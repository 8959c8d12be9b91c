using System.Globalization;
using System.Text.Json;
using Nibble.Evaluation.Metrics;
using Nibble.Runs;

namespace Nibble.Server.Dashboard;

/// <summary>What a number tells: it decides which conditions must be equal before two of them are compared.</summary>
internal enum NumberGroup
{
    /// <summary>How good a model is: text, protocol and arithmetic must be equal.</summary>
    Quality,

    /// <summary>How small it is: nothing need be equal.</summary>
    Size,

    /// <summary>Time, speed, memory, energy: the machine and how it was used must be equal.</summary>
    Cost,

    /// <summary>Counts and the like, which are neither good nor bad.</summary>
    Fact,
}

/// <summary>The conditions under which the numbers of runs came about.</summary>
internal static class RunConditions
{
    private const string MetricPrefix = "metric.";

    private static readonly string[] OwnScale = ["bits_per_byte", "accuracy", "macro_f1", "accuracy_delta", "heldout_accuracy", "heldout_macro_f1"];

    private static readonly (string Name, NumberGroup Group, string[] Paths)[] All =
    [
        ("kind of run", NumberGroup.Quality, []),
        ("protocol", NumberGroup.Quality, ["protocol"]),
        // The text itself where its fingerprint is known: a file may have two names.
        ("text", NumberGroup.Quality, ["data_sha256", "data", "settings.data"]),
        // A limit is not in the fingerprint of the text.
        ("scored tokens", NumberGroup.Quality, ["metric.scored_tokens"]),
        ("classified rows", NumberGroup.Quality, ["metric.classified_rows"]),
        ("held-out data", NumberGroup.Quality, ["eval_data"]),
        ("task", NumberGroup.Quality, ["task"]),
        ("tokenizer", NumberGroup.Quality, ["tokenizer_sha256"]),
        ("compute dtype", NumberGroup.Quality, ["compute_dtype"]),
        ("activation dtype", NumberGroup.Quality, ["activation_dtype", "activations"]),
        ("kv cache", NumberGroup.Quality, ["kv_cache"]),
        ("row length", NumberGroup.Quality, ["settings.max_seq_length"]),
        ("device", NumberGroup.Cost, ["device"]),
        ("processor", NumberGroup.Cost, ["environment.cpu"]),
        ("cores", NumberGroup.Cost, ["environment.cores"]),
        ("GPU", NumberGroup.Cost, ["environment.gpu"]),
        ("kernels", NumberGroup.Cost, ["kernels"]),
        ("threads", NumberGroup.Cost, ["threads"]),
        ("sequences in a pass", NumberGroup.Cost, ["batch", "settings.batch_size"]),
        ("system", NumberGroup.Cost, ["environment.os"]),
        ("Nibble", NumberGroup.Cost, ["environment.commit", "environment.nibble"]),
        ("energy from", NumberGroup.Cost, ["energy_source"]),
        ("prompt tokens", NumberGroup.Cost, ["metric.latency_prompt_tokens"]),
        ("new tokens", NumberGroup.Cost, ["metric.latency_decode_tokens"]),
        ("steps", NumberGroup.Cost, ["metric.planned_steps"]),
    ];

    /// <summary>What a metric tells.</summary>
    public static NumberGroup GroupOf(MetricInfo info) => info switch
    {
        { Unit: "s" or "ms" or "tok/s" or "J" or "W" or "g" } => NumberGroup.Cost,
        _ when info.Name.Contains("memory", StringComparison.Ordinal) || info.Name == "state_bytes" => NumberGroup.Cost,
        { Unit: "bytes" or "bits" } when info.Name != "bits_per_byte" => NumberGroup.Size,
        { Better: Better.Neither } => NumberGroup.Fact,
        _ => NumberGroup.Quality,
    };

    /// <summary>Whether a condition must be equal for a metric to be compared.</summary>
    public static bool Matters(string condition, NumberGroup group, MetricInfo info)
    {
        NumberGroup wanted = GroupOf(info);
        return condition switch
        {
            "tokenizer" => wanted == NumberGroup.Quality && !OwnScale.Contains(info.Name),
            "held-out data" => wanted == NumberGroup.Quality && IsHeldOut(info),
            // Two trainings on different texts may well be asked which does better on a third.
            "text" => (wanted == NumberGroup.Quality && !IsHeldOut(info)) || IsWork(info),
            "energy from" => info.Unit is "J" or "W" or "g",
            "prompt tokens" or "new tokens" => IsLatency(info),
            // Time and energy of a task grow with what there was to do.
            "protocol" or "scored tokens" or "classified rows" or "row length" => wanted == NumberGroup.Quality || IsWork(info),
            "steps" => IsWork(info),
            _ => wanted == group,
        };
    }

    private static bool IsHeldOut(MetricInfo info) => info.Name.StartsWith("heldout_", StringComparison.Ordinal);

    private static bool IsLatency(MetricInfo info) => info.Name is "ttft_ms" or "prefill_tokens_per_second" or "decode_tokens_per_second";

    private static bool IsWork(MetricInfo info) => info is { Unit: "s" or "J" or "g" } && info.Name != "quantization_seconds";

    /// <summary>Every condition of a run by its name; null where the run does not say.</summary>
    public static IReadOnlyList<(string Name, NumberGroup Group, string? Value)> Of(RunRecord run, IReadOnlyList<RunMetric> metrics)
    {
        IReadOnlyDictionary<string, string> settings = Flatten(run);
        string? Value(string path) => path.StartsWith(MetricPrefix, StringComparison.Ordinal)
            ? metrics.FirstOrDefault(metric => metric.Name == path[MetricPrefix.Length..])?.Value.ToString("#,0", CultureInfo.InvariantCulture)
            : settings.GetValueOrDefault(path);
        return [.. All.Select(condition => (condition.Name, condition.Group, condition.Paths.Length == 0 ? Kind(run) : condition.Paths.Select(Value).FirstOrDefault(value => value is not null)))];
    }

    /// <summary>Configuration and environment as one list of paths and values.</summary>
    public static IReadOnlyDictionary<string, string> Flatten(RunRecord run)
    {
        SortedDictionary<string, string> found = new(StringComparer.Ordinal);
        foreach ((string prefix, string json) in new[] { (string.Empty, run.Configuration), ("environment.", run.Environment) })
        {
            try
            {
                using JsonDocument document = JsonDocument.Parse(json);
                Add(found, prefix, document.RootElement);
            }
            catch (JsonException)
            {
                // Not Nibble's: nothing is known of it.
            }
        }

        return found;
    }

    // A cell of a study is an evaluation.
    private static string Kind(RunRecord run) => run.Kind == "compare" ? "eval" : run.Kind;

    private static void Add(SortedDictionary<string, string> found, string path, JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                foreach (JsonProperty property in element.EnumerateObject())
                {
                    Add(found, path.Length == 0 || path.EndsWith('.') ? path + property.Name : $"{path}.{property.Name}", property.Value);
                }

                break;
            case JsonValueKind.Null:
                break;
            case JsonValueKind.String:
                found[path] = element.GetString()!;
                break;
            case JsonValueKind.Number when element.TryGetDouble(out double number):
                found[path] = number.ToString("R", CultureInfo.InvariantCulture);
                break;
            default:
                found[path] = element.GetRawText();
                break;
        }
    }
}
