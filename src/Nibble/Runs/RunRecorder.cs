using System.Text.Json;
using Nibble.Evaluation;

namespace Nibble.Runs;

/// <summary>Puts finished measurements into a run store.</summary>
public static class RunRecorder
{
    /// <summary>Records one result document as a finished run, and returns its number.</summary>
    public static long Record(RunStore store, string kind, ResultDocument result)
    {
        object configuration = new
        {
            result.Method, result.Bits, result.Settings, result.Tasks, result.Protocol, result.Data, result.DataSha256, result.TokenizerSha256,
            result.Device, result.ComputeDtype, result.ActivationDtype, result.Kernels, result.Threads, result.Batch, result.Seed,
        };
        long run = store.Start(
            kind, result.Model, result.Method,
            JsonSerializer.Serialize(configuration, ResultDocument.JsonOptions),
            JsonSerializer.Serialize(result.Environment, ResultDocument.JsonOptions));
        store.Add(run, result.Metrics.Select(metric =>
        {
            double[]? ends = result.Intervals.GetValueOrDefault(metric.Key);
            return new RunMetric(metric.Key, 0, metric.Value, ends?[0], ends?[1]);
        }));
        store.Finish(run, succeeded: true);
        return run;
    }
}
