using Nibble.Evaluation.Metrics;
using Nibble.Evaluation.Texts;
using Nibble.Generation;
using Nibble.IO;

namespace Nibble.Evaluation.Tasks;

/// <summary>
/// Time to the first token, prefill and decode speed of one sequence, greedy: one run to warm up, then n measured ones. Shown is the
/// median; the interval is the fastest and the slowest run, which with six runs covers the true median with 96.9 %
/// (1 − 2·½ⁿ: the distribution does not matter).
/// </summary>
public sealed class LatencyTask : IEvaluationTask
{
    /// <inheritdoc/>
    public string Name => "latency";

    /// <inheritdoc/>
    public void Run(EvaluationContext context, ResultBuilder result)
    {
        EvaluationOptions options = context.Options;
        int[] prompt = Prompt(context);
        GenerationOptions generation = new() { MaxTokens = options.DecodeTokens + 1, IgnoreEos = true, Cancellation = context.Cancellation };
        List<GenerationTimings> runs = [];
        for (int run = 0; run <= options.Runs; run++)
        {
            context.Cancellation.ThrowIfCancellationRequested();
            context.Progress("latency", (double)run / (options.Runs + 1));
            using Generator generator = new(context.Model.Model, null, [], [prompt], generation);
            foreach (GenerationStep step in generator.Run())
            {
            }

            if (run > 0)
            {
                runs.Add(generator.Timings);
            }
        }

        Add(result, "ttft_ms", runs.Select(run => run.TimeToFirstToken.TotalMilliseconds));
        Add(result, "prefill_tokens_per_second", runs.Select(run => run.PrefillTokensPerSecond));
        Add(result, "decode_tokens_per_second", runs.Select(run => run.DecodeTokensPerSecond));
        result.Add("latency_prompt_tokens", prompt.Length);
        result.Add("latency_decode_tokens", options.DecodeTokens);
        result.Add("latency_runs", runs.Count);
    }

    private static int[] Prompt(EvaluationContext context)
    {
        EvaluationOptions options = context.Options;
        int longest = context.Model.Facts.Context - options.DecodeTokens;
        if (options.PromptTokens < 1 || options.DecodeTokens < 1 || options.Runs < 1 || options.PromptTokens > longest)
        {
            Throw.Usage(
                $"latency of {options.PromptTokens} prompt tokens, {options.DecodeTokens} new ones and {options.Runs} runs cannot be measured",
                $"all must be at least 1, and prompt and new tokens must fit the context of {context.Model.Facts.Context}",
                "use a smaller --prompt-tokens or --decode-tokens");
        }

        EvaluationText text = context.Text.Value;
        int[] tokens = context.Model.Tokenizer.Encode(text.Documents.First(document => !string.IsNullOrWhiteSpace(document)) is var first && first.Length > 1 << 16 ? first[..(1 << 16)] : first);
        // A text shorter than the prompt is repeated: the time does not depend on which tokens they are.
        return [.. Enumerable.Range(0, options.PromptTokens).Select(i => tokens[i % tokens.Length])];
    }

    private static void Add(ResultBuilder result, string metric, IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        result.Add(metric, BlockBootstrap.Percentile(sorted, 0.5), sorted[0], sorted[^1]);
    }
}
