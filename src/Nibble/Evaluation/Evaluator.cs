using Nibble.Certificates;
using Nibble.Evaluation.Tasks;
using Nibble.Evaluation.Texts;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;

namespace Nibble.Evaluation;

/// <summary>Loads a model, measures what was asked for, and returns one result document.</summary>
public static class Evaluator
{
    /// <summary>Measures the model in folder <paramref name="path"/>.</summary>
    public static ResultDocument Run(string path, EvaluationOptions options, Action<string, double>? progress = null, CancellationToken cancellation = default)
    {
        if (options.Tasks.Count == 0)
        {
            Throw.Usage("there is no task", $"known are {string.Join(", ", Registry.Tasks.Select(task => task.Name))}", "for example --tasks perplexity,latency");
        }

        if (options.Limit < 1 || options.Rows < 1)
        {
            Throw.Usage($"{(options.Limit < 1 ? $"--limit {options.Limit}" : $"--rows {options.Rows}")} leaves nothing to measure", remedy: "give 1 or more, or leave it out for everything");
        }

        // In the registry's order: a task that starts a baseline's folder comes before those that add to it.
        IEvaluationTask[] tasks = [.. options.Tasks.Select(Registry.Task).OrderBy(task => Array.IndexOf([.. Registry.Tasks], task))];
        using PeakMemory memory = new();
        ResultBuilder result = new();
        progress?.Invoke("loading", 0);
        using LoadedModel model = LoadedModel.Load(path, options.Load);
        EvaluationContext context = new(model, options, new Lazy<EvaluationText>(() => TextSource.Load(options.Data)), progress ?? ((_, _) => { }), cancellation);
        foreach (IEvaluationTask task in tasks)
        {
            cancellation.ThrowIfCancellationRequested();
            task.Run(context, result);
        }

        result.Add("peak_memory_bytes", memory.Bytes());
        WeightSizes sizes = WeightSizes.Of(model.Model);
        AddSizes(result, model, options, sizes);
        return Document(model, options, result, sizes, memory.Source);
    }

    private static void AddSizes(ResultBuilder result, LoadedModel model, EvaluationOptions options, WeightSizes sizes)
    {
        result.Add("weight_bytes", sizes.Bytes);
        result.Add("bits_per_parameter", sizes.BitsPerParameter);
        result.Add("bits_per_weight", sizes.BitsPerWeight);
        result.Add("outlier_share", sizes.OutlierShare);
        result.Add("quantization_seconds", model.QuantizationTime?.TotalSeconds);
        if (options.Load is { Quantization: null, Dtype: null })
        {
            // Otherwise what was measured is not what the files hold.
            result.Add("file_bytes", ModelHash.WeightFiles(model.Path).Sum(FileSize.Of));
        }
    }

    private static ResultDocument Document(LoadedModel model, EvaluationOptions options, ResultBuilder result, WeightSizes sizes, string memorySource)
    {
        MeasuredMethod method = MeasuredMethod.Of(model, options.Load);
        return new ResultDocument
        {
            Model = Hub.HubCache.Called(model.Path),
            Adapter = options.Load.Adapter,
            Method = method.Name,
            Bits = method.Bits,
            Settings = method.Settings,
            Task = options.Tasks[0],
            Tasks = options.Tasks,
            Protocol = result.Protocol,
            Data = options.Data,
            DataSha256 = result.DataSha256,
            TokenizerSha256 = result.TokenizerSha256,
            Device = model.Backend.Name,
            ComputeDtype = model.Backend.Compute.ToString().ToLowerInvariant(),
            KvCache = model.Model.CacheType.Name(),
            ActivationDtype = model.Model.ActivationDtype,
            Kernels = model.Backend.KernelVariant,
            Packings = sizes.Packings,
            Threads = model.Backend.Threads,
            Batch = result.Batch,
            Seed = options.Seed,
            Classes = result.Classes,
            Confusion = result.Confusion,
            Metrics = result.Metrics,
            Intervals = result.Intervals,
            EnergySource = result.EnergySource,
            EnergyDescription = result.EnergyDescription,
            CarbonSource = result.CarbonSource,
            MemorySource = memorySource,
            Environment = EnvironmentFacts.Read(),
        };
    }
}
