using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Quantization;

namespace Nibble.Runs;

/// <summary>Puts finished work into a run store.</summary>
public static class RunRecorder
{
    /// <summary>Records one result document as a finished run, and returns its number.</summary>
    /// <param name="store">The store.</param>
    /// <param name="kind">eval or compare.</param>
    /// <param name="result">What was measured.</param>
    /// <param name="study">Name of the study that it is a cell of.</param>
    /// <param name="output">The study's folder.</param>
    public static long Record(RunStore store, string kind, ResultDocument result, string? study = null, string? output = null)
    {
        RunConfiguration configuration = new(
            study, result.Key, result.Label, result.Baseline, result.Adapter, result.Before, result.Training,
            result.Method, result.Bits, result.Settings, result.Tasks, result.Protocol, result.Data, result.DataSha256, result.TokenizerSha256,
            result.Device, result.ComputeDtype, result.ActivationDtype, result.KvCache, result.Kernels, result.Threads, result.Batch, result.Seed,
            result.EnergySource, result.EnergyDescription, result.CarbonSource, result.MemorySource, result.Command);
        JsonSerializerOptions options = ResultDocument.JsonOptions;
        NewRun run = new(kind, result.Model, result.Method, DocumentJson.Text(configuration, options), DocumentJson.Text(result.Environment, options)) { Output = output is null ? null : Path.GetFullPath(output) };
        long id = store.Start(run);
        store.Add(id, result.Metrics.Select(metric =>
        {
            double[]? ends = result.Intervals.GetValueOrDefault(metric.Key);
            return new RunMetric(metric.Key, 0, metric.Value, ends?[0], ends?[1]);
        }));
        store.Finish(id, RunEnd.Finished);
        return id;
    }

    /// <summary>The numbers of a quantization, under the names of <c>quantize --json</c>.</summary>
    public static IReadOnlyList<RunMetric> MetricsOf(QuantizationResult result, string output)
    {
        QuantizationReport report = result.Report;
        (string Name, double? Value)[] numbers =
        [
            ("bits_per_weight", report.BitsPerWeight), ("bits_per_parameter", report.BitsPerParameter), ("bytes_before", report.BytesBefore), ("bytes_after", report.BytesAfter),
            ("file_bytes", new DirectoryInfo(output).EnumerateFiles("*.safetensors").Sum(file => file.Length)), ("relative_error", report.RelativeError),
            ("quantization_seconds", result.QuantizationSeconds), ("total_seconds", result.Seconds),
            ("energy_joules", result.EnergyJoules), ("device_peak_memory_bytes", result.DevicePeakMemoryBytes),
            ("largest_logit_difference", result.Certificate.LargestLogitDifference), ("logit_range", result.Certificate.LogitRange),
            ("same_best_share", result.Certificate.SameBest / (double)Math.Max(1, result.Certificate.Prompt.Count)),
            .. result.Phases.Select(phase => ($"phase_seconds.{phase.Key}", (double?)phase.Value)),
        ];
        return [.. numbers.Where(item => item.Value is not null).Select(item => new RunMetric(item.Name, 0, item.Value!.Value))];
    }

    /// <summary>A configuration or an environment as the store keeps it.</summary>
    [RequiresUnreferencedCode("The document may be of any type.")]
    [RequiresDynamicCode("The document may be of any type.")]
    public static string Json(object document) => JsonSerializer.Serialize(document, new JsonSerializerOptions(ResultDocument.JsonOptions) { TypeInfoResolver = new DefaultJsonTypeInfoResolver() });
}

/// <summary>With what a measurement was made.</summary>
internal sealed record RunConfiguration(
    string? Study, string? Key, string? Label, bool? Baseline, string? Adapter, string? Before, IReadOnlyList<TrainingFacts>? Training,
    string Method, double? Bits, IReadOnlyDictionary<string, object> Settings, IReadOnlyList<string> Tasks, string? Protocol, string? Data, string? DataSha256, string? TokenizerSha256,
    string Device, string ComputeDtype, string ActivationDtype, string? KvCache, string Kernels, int Threads, int Batch, int Seed,
    string? EnergySource, string? EnergyDescription, string? CarbonSource, string? MemorySource, string? Command);
