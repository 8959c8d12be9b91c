using System.Text.Json;

namespace Nibble.Server.OpenAi;

/// <summary>The body of <c>POST /v1/completions</c>: each prompt as a text or as tokens.</summary>
internal sealed record CompletionRequest(IReadOnlyList<CompletionPrompt> Prompts, SamplingFields Sampling, bool Echo)
{
    private const int MostPrompts = 128, MostTop = 20;

    public static CompletionRequest Read(JsonElement body, ServeOptions serve)
    {
        RequestFields fields = new(body);
        CompletionPrompt[] prompts = [.. PromptsOf(fields)];
        SamplingFields sampling = SamplingFields.Read(fields, serve);
        long? most = fields.Whole("max_tokens", 1, int.MaxValue), top = fields.Whole("logprobs", 0, MostTop);
        bool echo = fields.Flag("echo");
        if (echo && top is not null)
        {
            throw ApiException.Unsupported("echo", "log probabilities are told of new tokens alone, not of the prompt's");
        }

        fields.Refuse("suffix", "texts are continued, not filled in");
        fields.Refuse("best_of", "as many texts are generated as 'n' asks for", value => value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long count) && count == sampling.Choices);
        fields.Finish();
        return new CompletionRequest(prompts, sampling with { Options = sampling.Options with { MaxTokens = (int)(most ?? serve.MaxTokens), TopLogProbabilities = (int?)top } }, echo);
    }

    private static IEnumerable<CompletionPrompt> PromptsOf(RequestFields fields)
    {
        if (fields.Take("prompt") is not { } given)
        {
            throw ApiException.Invalid("'prompt' is missing.", "prompt", "missing_required_parameter");
        }

        if (given.ValueKind == JsonValueKind.String)
        {
            return [new CompletionPrompt(given.GetString(), [])];
        }

        if (given.ValueKind != JsonValueKind.Array || given.GetArrayLength() == 0)
        {
            throw Form(fields);
        }

        if (given[0].ValueKind == JsonValueKind.Number)
        {
            return [new CompletionPrompt(null, Tokens(fields, given))];
        }

        return given.GetArrayLength() <= MostPrompts
            ? given.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.String ? new CompletionPrompt(item.GetString(), []) : new CompletionPrompt(null, Tokens(fields, item)))
            : throw ApiException.Invalid($"{given.GetArrayLength()} prompts; at most {MostPrompts} are possible.", "prompt", "invalid_value");
    }

    private static int[] Tokens(RequestFields fields, JsonElement given) => given.ValueKind == JsonValueKind.Array
        ? [.. given.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.Number && item.TryGetInt32(out int token) ? token : throw Form(fields))]
        : throw Form(fields);

    private static ApiException Form(RequestFields fields) => fields.Type("prompt", "a string, an array of strings, an array of tokens, or an array of those");
}

/// <summary>A prompt: its text, or its tokens where the text is null.</summary>
internal sealed record CompletionPrompt(string? Text, int[] Tokens);
