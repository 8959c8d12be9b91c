using System.Diagnostics;
using Nibble.Energy;
using Nibble.Evaluation.Baselines;
using Nibble.Evaluation.Metrics;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;

namespace Nibble.Evaluation.Tasks;

/// <summary>
/// Perplexity of a text under a protocol, with a bootstrap interval; against a baseline also the paired ratio, KL divergence and
/// agreement of the most likely token. What runs is the packed model through its kernels, never a dequantized copy.
/// </summary>
public sealed class PerplexityTask : IEvaluationTask
{
    /// <inheritdoc/>
    public string Name => "perplexity";

    /// <inheritdoc/>
    public void Run(EvaluationContext context, ResultBuilder result)
    {
        EvaluationOptions options = context.Options;
        Protocol protocol = Protocol.Create(options.Protocol, options.Window, options.Stride, context.Model.Facts.Context);
        TextJoin join = options.Join ?? context.Text.Value.Join;
        TokenizedText text = TokenizedText.Create(context.Text.Value, protocol, join, context.Model.Tokenizer, options.Limit);
        result.Protocol = protocol.Id(join);
        result.DataSha256 = context.Text.Value.Fingerprint;
        result.TokenizerSha256 = text.Tokenizer;

        LikelihoodScorer scorer = new(context.Model.Model);
        BaselineFacts facts = BaselineFacts.Of(result.Protocol, result.DataSha256, text.Tokenizer, ScoredTokens(text, protocol), context.Model.Facts.Vocabulary);
        using BaselineWriter? writer = options.SaveBaseline is null ? null : new BaselineWriter(options.SaveBaseline, facts);
        using BaselineReader? reader = options.Baseline is null ? null : BaselineReader.Open(options.Baseline, facts);
        float[] losses = Measure(context, result, () => scorer.Score(
            text, protocol, (IScoredRows?)reader ?? writer, done => context.Progress("perplexity", done), context.Cancellation));
        result.Batch = scorer.LargestBatch;
        writer?.Commit(losses);
        AddLosses(result, losses, LikelihoodScorer.ScoredBytes(text, protocol), Bootstrap(options));
        if (reader is not null)
        {
            AddComparison(result, losses, reader, Bootstrap(options));
        }
    }

    /// <summary>Perplexity, loss and bits per byte with their intervals.</summary>
    internal static void AddLosses(ResultBuilder result, float[] losses, long bytes, BlockBootstrap bootstrap)
    {
        double total = Sum(losses);
        double mean = total / losses.Length;
        (double low, double high) = bootstrap.Mean(losses);
        double bitsPerNat = losses.Length / (Math.Log(2) * bytes);
        result.Add("perplexity", Math.Exp(mean), Math.Exp(low), Math.Exp(high));
        result.Add("nll", mean, low, high);
        result.Add("bits_per_byte", mean * bitsPerNat, low * bitsPerNat, high * bitsPerNat);
        result.Add("scored_tokens", losses.Length);
    }

    private static BlockBootstrap Bootstrap(EvaluationOptions options) => new((ulong)options.Seed);

    private static int ScoredTokens(TokenizedText text, Protocol protocol) =>
        text.Sequences.Sum(sequence => protocol.Windows(sequence.Ids.Length).Sum(window => window.Scored));

    private static double Sum(float[] losses)
    {
        double total = 0;
        foreach (float loss in losses)
        {
            total += loss;
        }

        return total;
    }

    private static float[] Measure(EvaluationContext context, ResultBuilder result, Func<float[]> work)
    {
        CarbonIntensity carbon = context.Options.Country is { } country ? CarbonIntensity.Find(country) : CarbonIntensity.World;
        using IEnergyMeter meter = EnergyMeter.Start(context.Model.Backend);
        Stopwatch time = Stopwatch.StartNew();
        float[] losses = work();
        result.Add("evaluation_seconds", time.Elapsed.TotalSeconds);
        double joules = meter.Joules();
        result.Add("energy_joules", joules);
        if (meter is NvmlMeter card)
        {
            result.Add("energy_total_joules", card.TotalJoules);
            result.Add("energy_idle_watts", card.IdleWatts);
        }

        result.Add("co2eq_grams", carbon.Grams(joules));
        result.EnergySource = meter.Source;
        result.EnergyDescription = meter.Description;
        result.CarbonSource = carbon.ToString();
        return losses;
    }

    private static void AddComparison(ResultBuilder result, float[] losses, BaselineReader baseline, BlockBootstrap bootstrap)
    {
        double difference = (Sum(losses) - Sum(baseline.Losses)) / losses.Length;
        (double low, double high) = bootstrap.MeanDifference(losses, baseline.Losses);
        result.Add("nll_delta", difference, low, high);
        result.Add("perplexity_ratio", Math.Exp(difference), Math.Exp(low), Math.Exp(high));
        (low, high) = bootstrap.Mean(baseline.Kl);
        result.Add("kl", Sum(baseline.Kl) / baseline.Kl.Length, low, high);
        (low, high) = bootstrap.Mean(baseline.Agreement);
        result.Add("top1_agreement", Sum(baseline.Agreement) / baseline.Agreement.Length, low, high);
    }
}
