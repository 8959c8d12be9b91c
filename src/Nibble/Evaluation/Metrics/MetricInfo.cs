namespace Nibble.Evaluation.Metrics;

/// <summary>Which direction of a metric is better.</summary>
public enum Better
{
    /// <summary>It is a fact, neither good nor bad.</summary>
    Neither,

    /// <summary>Lower is better.</summary>
    Lower,

    /// <summary>Higher is better.</summary>
    Higher,
}

/// <summary>What a metric is, for tables and charts.</summary>
/// <param name="Name">Name in result documents.</param>
/// <param name="Label">Heading of a column.</param>
/// <param name="Unit">Unit, empty for pure numbers.</param>
/// <param name="Better">Direction.</param>
/// <param name="Meaning">One sentence for people.</param>
public sealed record MetricInfo(string Name, string Label, string Unit, Better Better, string Meaning)
{
    /// <summary>Every metric that Nibble measures, in the order of tables.</summary>
    public static IReadOnlyList<MetricInfo> All { get; } =
    [
        new("perplexity", "perplexity", "", Better.Lower, "exp(total negative log-likelihood / scored tokens)"),
        new("perplexity_before", "perplexity before", "", Better.Neither, "perplexity of the base on the same tokens, before the tuning"),
        new("perplexity_ratio", "÷ baseline", "", Better.Lower, "perplexity divided by the baseline's on the same tokens; its interval is paired"),
        new("nll", "loss", "nats/token", Better.Lower, "mean negative log-likelihood of a scored token"),
        new("nll_before", "loss before", "nats/token", Better.Neither, "the base's mean negative log-likelihood of the same tokens"),
        new("nll_delta", "Δ loss", "nats/token", Better.Lower, "loss minus the baseline's on the same tokens; its interval is paired"),
        new("bits_per_byte", "bits per byte", "bits", Better.Lower, "total negative log-likelihood in bits / bytes of text behind the scored tokens: comparable across vocabularies"),
        new("kl", "KL", "nats", Better.Lower, "mean KL divergence of the model's next-token distribution from the baseline's, on the first 4,096 scored tokens"),
        new("top1_agreement", "same top token", "%", Better.Higher, "share of those tokens where model and baseline find the same token most likely"),
        new("scored_tokens", "scored tokens", "", Better.Neither, "tokens whose likelihood counts"),
        new("accuracy", "accuracy", "%", Better.Higher, "share of rows whose class was found; unparsed answers are wrong"),
        new("macro_f1", "macro F1", "%", Better.Higher, "mean F1 of the classes, each weighing the same"),
        new("accuracy_delta", "Δ accuracy", "%", Better.Higher, "accuracy minus the baseline's on the same rows; its interval is paired"),
        new("mcnemar_p", "McNemar p", "", Better.Neither, "probability of differences like these if both were equally good (McNemar's test)"),
        new("rows_lost", "rows lost", "", Better.Neither, "rows that only the baseline got right"),
        new("rows_gained", "rows gained", "", Better.Neither, "rows that only this one got right"),
        new("classified_rows", "rows", "", Better.Neither, "rows that were classified"),
        new("unparsed_rows", "unparsed", "", Better.Lower, "rows whose answer names no class; they count as wrong"),
        new("truncated_rows", "truncated", "", Better.Neither, "rows that were longer than the model's context, and were cut"),
        new("classification_seconds", "classification", "s", Better.Lower, "time of the classification task"),
        new("bits_per_weight", "bits/weight", "bits", Better.Lower, "bits of a quantized weight, scales and zero points included"),
        new("bits_per_parameter", "bits/parameter", "bits", Better.Lower, "bits of the whole model in memory divided by its parameters"),
        new("weight_bytes", "weights", "bytes", Better.Lower, "bytes that stand in memory for weights"),
        new("file_bytes", "file", "bytes", Better.Lower, "bytes of the model's weight files"),
        new("peak_memory_bytes", "peak memory", "bytes", Better.Lower, "peak resident set of the process, mapped file pages excluded; the runtime's own 50 to 70 MB are in it"),
        new("ttft_ms", "first token", "ms", Better.Lower, "time from the prompt's tokens to the first new token (prefill)"),
        new("prefill_tokens_per_second", "prefill", "tok/s", Better.Higher, "prompt tokens per second"),
        new("decode_tokens_per_second", "decode", "tok/s", Better.Higher, "new tokens per second, one sequence, greedy"),
        new("quantization_seconds", "quantization", "s", Better.Lower, "time to quantize the weights"),
        new("evaluation_seconds", "evaluation", "s", Better.Lower, "time of the perplexity task"),
        new("energy_joules", "energy", "J", Better.Lower, "energy of the perplexity task"),
        new("energy_total_joules", "energy with idle", "J", Better.Neither, "all that the card used during the perplexity task; energy is this less what it draws while it waits"),
        new("energy_idle_watts", "idle", "W", Better.Neither, "what the card drew while it waited, measured for a second before the perplexity task"),
        new("co2eq_grams", "CO₂eq", "g", Better.Lower, "that energy times the carbon intensity of the chosen country"),
        new("outlier_share", "outlier columns", "%", Better.Neither, "LLM.int8: share of activation columns that were multiplied in high precision"),
    ];

    /// <summary>The metric of a name, or null.</summary>
    public static MetricInfo? Find(string name) => All.FirstOrDefault(metric => metric.Name == name);
}
