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
        new("train_loss", "training loss", "nats/token", Better.Lower, "mean negative log-likelihood of the scored tokens of a step"),
        new("heldout_nll", "held-out loss", "nats/token", Better.Lower, "mean negative log-likelihood of the held-out data (of its labels, for a classifier)"),
        new("heldout_accuracy", "held-out accuracy", "%", Better.Higher, "share of held-out rows with the right label"),
        new("heldout_macro_f1", "held-out macro F1", "%", Better.Higher, "mean F1 of the labels on held-out rows"),
        new("learning_rate", "learning rate", "", Better.Neither, "learning rate of the step"),
        new("gradient_norm", "gradient norm", "", Better.Neither, "norm of all gradients before clipping"),
        new("step_tokens_per_second", "speed of a step", "tok/s", Better.Higher, "tokens that ran through the model a second, padding left out"),
        new("memory_bytes", "memory", "bytes", Better.Neither, "resident set of the process, mapped file pages included"),
        new("device_memory_bytes", "card's memory", "bytes", Better.Neither, "most bytes of the card in use at once so far"),
        new("energy_so_far_joules", "energy so far", "J", Better.Neither, "energy since the first step of this process"),
        new("elapsed_seconds", "time", "s", Better.Neither, "time since the first step; of a resumed training the steps before are counted"),
        new("heldout_nll_before", "held-out loss before", "nats/token", Better.Neither, "held-out loss before the first step"),
        new("heldout_nll_after", "held-out loss after", "nats/token", Better.Lower, "held-out loss of the result"),
        new("heldout_accuracy_before", "held-out accuracy before", "%", Better.Neither, "share of held-out rows with the right label before the first step"),
        new("heldout_accuracy_after", "held-out accuracy after", "%", Better.Higher, "share of held-out rows with the right label at the end"),
        new("heldout_macro_f1_before", "held-out macro F1 before", "%", Better.Neither, "mean F1 of the labels before the first step"),
        new("heldout_macro_f1_after", "held-out macro F1 after", "%", Better.Higher, "mean F1 of the labels at the end"),
        new("train_loss_first", "first training loss", "nats/token", Better.Neither, "training loss of this process's first step"),
        new("train_loss_last", "last training loss", "nats/token", Better.Lower, "training loss of the last step"),
        new("tokens_per_second", "training speed", "tok/s", Better.Higher, "tokens that ran through the model a second, padding left out, over all steps of this process"),
        new("training_seconds", "training", "s", Better.Lower, "time of the steps, with evaluations and checkpoints between them"),
        new("total_seconds", "in all", "s", Better.Lower, "time of the whole work, loading and saving included"),
        new("steps", "steps", "", Better.Neither, "steps that this process did"),
        new("planned_steps", "planned steps", "", Better.Neither, "steps of the whole training"),
        new("steps_per_point", "steps a point", "", Better.Neither, "steps behind each point of the curves"),
        new("trainable_parameters", "trained parameters", "", Better.Neither, "numbers that are trained"),
        new("total_parameters", "parameters", "", Better.Neither, "numbers of the base, tied ones once"),
        new("train_rows", "rows of data", "", Better.Neither, "rows that were trained on"),
        new("skipped_rows", "rows left out", "", Better.Neither, "rows of the data that could not be used"),
        new("heldout_tokens", "held-out tokens", "", Better.Neither, "scored tokens of the held-out data"),
        new("state_bytes", "training state", "bytes", Better.Lower, "bytes of activations, gradients and optimizer states"),
        new("device_peak_memory_bytes", "card's peak memory", "bytes", Better.Lower, "most bytes of the card in use at once"),
        new("relative_error", "relative error", "%", Better.Lower, "Frobenius norm of what rounding changed, by that of the weights, over the quantized matrices"),
        new("bytes_before", "tensors before", "bytes", Better.Neither, "bytes of all tensors before"),
        new("bytes_after", "tensors after", "bytes", Better.Lower, "bytes of all tensors after"),
        new("largest_logit_difference", "largest logit difference", "", Better.Lower, "largest difference of a logit from the source's, on the certificate's prompt"),
        new("logit_range", "range of logits", "", Better.Neither, "from the smallest to the largest logit of the source there"),
        new("same_best_share", "same best token", "%", Better.Higher, "share of the certificate's positions where source and result find the same token most likely"),
        new("latency_prompt_tokens", "prompt", "", Better.Neither, "tokens of the prompt of the latency task"),
        new("latency_decode_tokens", "new tokens", "", Better.Neither, "tokens that the latency task decodes"),
        new("latency_runs", "runs of the latency task", "", Better.Neither, "runs behind its median"),
        new("outlier_share", "outlier columns", "%", Better.Neither, "LLM.int8: share of activation columns that were multiplied in high precision"),
    ];

    /// <summary>The metric of a name, or null.</summary>
    public static MetricInfo? Find(string name) => All.FirstOrDefault(metric => metric.Name == name);
}
