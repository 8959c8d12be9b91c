using System.Text.Json;
using Nibble.Generation;
using Nibble.Templates;

namespace Nibble.Server.OpenAi;

/// <summary>The body of <c>POST /v1/chat/completions</c>.</summary>
internal sealed record ChatRequest(IReadOnlyList<ChatMessage> Messages, SamplingFields Sampling)
{
    private const int MostTop = 20;

    public static ChatRequest Read(JsonElement body, ServeOptions serve)
    {
        RequestFields fields = new(body);
        ChatMessage[] messages = Conversation(fields);
        SamplingFields sampling = SamplingFields.Read(fields, serve);
        bool wanted = fields.Flag("logprobs");
        long? top = fields.Whole("top_logprobs", 0, MostTop);
        if (top is not null && !wanted)
        {
            throw ApiException.Invalid("'top_logprobs' needs 'logprobs': true.", "top_logprobs", "invalid_value");
        }

        GenerationOptions options = sampling.Options with
        {
            MaxTokens = Most(fields) ?? serve.MaxTokens, TopLogProbabilities = wanted ? (int)(top ?? 0) : null,
        };
        RefuseOthers(fields);
        fields.Finish();
        return new ChatRequest(messages, sampling with { Options = options });
    }

    private static int? Most(RequestFields fields)
    {
        long? old = fields.Whole("max_tokens", 1, int.MaxValue), most = fields.Whole("max_completion_tokens", 1, int.MaxValue);
        return old is not null && most is not null && old != most
            ? throw ApiException.Invalid("'max_tokens' and 'max_completion_tokens' differ; give the second alone.", "max_tokens", "invalid_value")
            : (int?)(most ?? old);
    }

    private static void RefuseOthers(RequestFields fields)
    {
        const string tools = "this server calls no tools";
        fields.Refuse("tools", tools);
        fields.Refuse("functions", tools);
        fields.Refuse("tool_choice", tools, value => Is(value, "none") || Is(value, "auto"));
        fields.Refuse("function_call", tools, value => Is(value, "none") || Is(value, "auto"));
        // Without tools it has no meaning.
        fields.Accept("parallel_tool_calls");
        fields.Refuse("response_format", "answers are text, not held to a form", value => value.ValueKind == JsonValueKind.Object && value.TryGetProperty("type", out JsonElement type) && Is(type, "text"));
        fields.Refuse("modalities", "answers are text", value => value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(item => Is(item, "text")));
        fields.Refuse("audio", "answers are text");
        fields.Refuse("reasoning_effort", "models are run as they are");
        fields.Refuse("verbosity", "models are run as they are");
        fields.Refuse("web_search_options", "this server searches nothing");
        // Only makes answers come sooner where it is served.
        fields.Accept("prediction");
    }

    private static bool Is(JsonElement value, string text) => value.ValueKind == JsonValueKind.String && value.GetString() == text;

    private static ChatMessage[] Conversation(RequestFields fields)
    {
        if (fields.Take("messages") is not { } given)
        {
            throw ApiException.Invalid("'messages' is missing.", "messages", "missing_required_parameter");
        }

        if (given.ValueKind != JsonValueKind.Array || given.GetArrayLength() == 0)
        {
            throw fields.Type("messages", "an array of at least one message");
        }

        return [.. given.EnumerateArray().Select(Message)];
    }

    private static ChatMessage Message(JsonElement element, int index)
    {
        string path = $"messages[{index}].";
        RequestFields fields = new(element, path);
        string role = fields.Text("role") switch
        {
            null => throw ApiException.Invalid($"'{path}role' is missing.", path + "role", "missing_required_parameter"),
            // Newer name of the same; templates know the older one.
            "developer" => "system",
            ("system" or "user" or "assistant") and string known => known,
            "tool" or "function" => throw ApiException.Unsupported(path + "role", "this server calls no tools"),
            string other => throw ApiException.Invalid($"'{path}role' is '{other}'; it must be system, developer, user or assistant.", path + "role", "invalid_value"),
        };
        string content = Content(fields, path) ?? throw ApiException.Invalid($"'{path}content' is missing.", path + "content", "missing_required_parameter");
        fields.Refuse("tool_calls", "this server calls no tools");
        fields.Refuse("function_call", "this server calls no tools");
        fields.Refuse("audio", "messages are text");
        fields.Refuse("refusal", "messages have text alone");
        fields.Refuse("name", "templates do not show names");
        // What clients send back of an answer.
        fields.Accept("annotations");
        fields.Finish();
        return new ChatMessage(role, content);
    }

    /// <summary>A text, or parts of one, which stand on lines of their own (as other local servers do).</summary>
    private static string? Content(RequestFields fields, string path)
    {
        if (fields.Take("content") is not { } content)
        {
            return null;
        }

        if (content.ValueKind == JsonValueKind.String)
        {
            return content.GetString();
        }

        if (content.ValueKind != JsonValueKind.Array)
        {
            throw fields.Type("content", "a string or an array of text parts");
        }

        return string.Join('\n', content.EnumerateArray().Select((part, i) =>
        {
            RequestFields inner = new(part, $"{path}content[{i}].");
            string? type = inner.Text("type");
            if (type != "text")
            {
                throw ApiException.Invalid($"'{path}content[{i}].type' is '{type}'; only 'text' can be read.", $"{path}content[{i}].type", "unsupported_value");
            }

            string text = inner.Text("text") ?? throw inner.Type("text", "a string");
            inner.Accept("cache_control");
            inner.Finish();
            return text;
        }));
    }
}
