using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Nibble.Generation;

namespace Nibble.Server.OpenAi;

/// <summary>What requests of both kinds say about how an answer is generated and told.</summary>
/// <param name="Options">How tokens are chosen; choice i draws with seed + i.</param>
/// <param name="Choices">Answers to each prompt.</param>
/// <param name="Stream">Whether text is sent as it comes.</param>
/// <param name="IncludeUsage">Whether a stream ends with the number of its tokens.</param>
internal sealed record SamplingFields(GenerationOptions Options, int Choices, bool Stream, bool IncludeUsage)
{
    private const int MostChoices = 128, MostStops = 16;

    /// <summary>Reads them, and what both kinds accept or refuse; which tokens' probabilities are told is each kind's own.</summary>
    public static SamplingFields Read(RequestFields fields, ServeOptions serve)
    {
        // One model is served: whatever a client calls it, it is meant.
        _ = fields.Text("model");
        fields.Accept("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention");
        bool stream = fields.Flag("stream");
        string[] stops = fields.Texts("stop", MostStops);
        if (stops.Any(stop => stop.Length == 0))
        {
            throw ApiException.Invalid("'stop' has an empty text, at which every answer would end.", "stop", "invalid_value");
        }

        GenerationOptions options = new()
        {
            MaxTokens = serve.MaxTokens,
            Temperature = fields.Number("temperature", 0, float.MaxValue) ?? 1,
            // 0 is allowed by OpenAI: the most likely token alone.
            TopP = Math.Max(fields.Number("top_p", 0, 1) ?? 1, double.Epsilon),
            TopK = (int)Math.Max(0, fields.Whole("top_k", -1, int.MaxValue) ?? 0),
            MinP = fields.Number("min_p", 0, 1) ?? 0,
            RepetitionPenalty = fields.Number("repetition_penalty", 0.01, 100) ?? 1,
            PresencePenalty = fields.Number("presence_penalty", -2, 2) ?? 0,
            FrequencyPenalty = fields.Number("frequency_penalty", -2, 2) ?? 0,
            LogitBias = Bias(fields),
            Stop = stops,
            // As OpenAI does: without a seed the same request has another answer each time.
            Seed = fields.Whole("seed", long.MinValue, long.MaxValue) ?? RandomNumberGenerator.GetInt32(int.MaxValue),
            IgnoreEos = fields.Flag("ignore_eos"),
        };
        return new SamplingFields(options, (int)(fields.Whole("n", 1, MostChoices) ?? 1), stream, UsageOfStream(fields, stream));
    }

    private static bool UsageOfStream(RequestFields fields, bool stream)
    {
        if (fields.Take("stream_options") is not { } given)
        {
            return false;
        }

        RequestFields inner = new(given, "stream_options.");
        bool usage = inner.Flag("include_usage");
        inner.Accept("include_obfuscation");
        inner.Finish();
        return stream ? usage : throw ApiException.Invalid("'stream_options' is for requests with 'stream': true.", "stream_options", "invalid_value");
    }

    private static Dictionary<int, float> Bias(RequestFields fields)
    {
        Dictionary<int, float> biases = [];
        if (fields.Take("logit_bias") is not { } given)
        {
            return biases;
        }

        if (given.ValueKind != JsonValueKind.Object)
        {
            throw fields.Type("logit_bias", "an object of token ids and numbers");
        }

        foreach (JsonProperty entry in given.EnumerateObject())
        {
            if (!int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int token)
                || entry.Value.ValueKind != JsonValueKind.Number || entry.Value.GetDouble() is < -100 or > 100)
            {
                throw ApiException.Invalid($"'logit_bias' has '{entry.Name}': token ids with numbers from -100 to 100 are expected.", "logit_bias", "invalid_value");
            }

            biases[token] = (float)entry.Value.GetDouble();
        }

        return biases;
    }
}
