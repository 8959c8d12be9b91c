using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Evaluation;

/// <summary>
/// How much of its base's general ability a tuning cost: the tuned model is compared with the base, token by token, on text that
/// neither was tuned on ("catastrophic forgetting", measured). The rise of the loss, and the KL divergence from the base.
/// </summary>
public static class Forgetting
{
    /// <summary>Measures <paramref name="path"/> as <see cref="Evaluator.Run"/> does, beside <paramref name="before"/>.</summary>
    /// <param name="path">The tuned model; an adapter and a method of <paramref name="options"/> go on it.</param>
    /// <param name="before">The base: a model as it is stored, dense or quantized.</param>
    /// <param name="options">What is measured; must name the perplexity task, and no baseline of its own.</param>
    /// <param name="progress">Receives what is being done and how much of it.</param>
    /// <param name="cancellation">Stops between windows.</param>
    /// <returns>The tuned model's document, with <c>perplexity_before</c> and <c>nll_before</c>, and the comparison's metrics.</returns>
    /// <exception cref="NibbleException">The options cannot be used, or the two models do not share a tokenizer.</exception>
    public static ResultDocument Run(string path, string before, EvaluationOptions options, Action<string, double>? progress = null, CancellationToken cancellation = default)
    {
        if (options.Baseline is not null || options.SaveBaseline is not null || !options.Tasks.Contains("perplexity"))
        {
            Throw.Usage("--before cannot be used here", "it measures perplexity beside a baseline of its own", "leave out --baseline and --save-baseline, and keep perplexity in --tasks");
        }

        options = WithSameWindow(before, options);
        string folder = Directory.CreateTempSubdirectory("nibble-before-").FullName;
        try
        {
            string baseline = Path.Combine(folder, "baseline");
            EvaluationOptions plain = options with { Tasks = ["perplexity"], SaveBaseline = baseline, Load = options.Load with { Adapter = null, Quantization = null } };
            ResultDocument first = Evaluator.Run(before, plain, progress is null ? null : (what, done) => progress("before: " + what, done), cancellation);
            ResultDocument second = Evaluator.Run(path, options with { Baseline = baseline }, progress, cancellation);
            return Join(first, second, before);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Virtual tokens take a part of the context, so the usual window of the two would differ: the smaller one is for both.</summary>
    private static EvaluationOptions WithSameWindow(string before, EvaluationOptions options)
    {
        string config = Path.Combine(options.Load.Adapter ?? string.Empty, PeftConfig.FileName);
        if (options.Window is not null || options.Protocol != "window" || options.Load.Adapter is null || !File.Exists(config)
            || JsonConfig.Open(config).GetInt("num_virtual_tokens", 0, min: 0) is not (> 0 and int tokens))
        {
            return options;
        }

        ModelConfig model = ModelConfig.Open(before);
        const int usual = 1024;
        return options with { Window = Math.Min(usual, Registry.Architecture(model).Facts(model).Context - tokens) };
    }

    private static ResultDocument Join(ResultDocument before, ResultDocument after, string path)
    {
        Dictionary<string, double> metrics = new(after.Metrics);
        Dictionary<string, double[]> intervals = new(after.Intervals);
        foreach (string name in (string[])["perplexity", "nll"])
        {
            metrics[name + "_before"] = before.Metrics[name];
            intervals[name + "_before"] = before.Intervals[name];
        }

        return after with { Before = path, Metrics = metrics, Intervals = intervals };
    }
}
