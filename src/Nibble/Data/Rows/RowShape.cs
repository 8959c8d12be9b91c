namespace Nibble.Data.Rows;

/// <summary>What a row is for training.</summary>
internal abstract record Example;

/// <summary>A text, all of it trained on.</summary>
internal sealed record TextExample(string Text) : Example;

/// <summary>A prompt, and what is to follow it.</summary>
internal sealed record CompletionExample(string Prompt, string Completion) : Example;

/// <summary>A conversation; the first <paramref name="Given"/> messages are never trained on.</summary>
internal sealed record ChatExample(IReadOnlyList<IReadOnlyDictionary<string, object?>> Messages, object? Tools, int Given = 0) : Example;

/// <summary>Recognizes rows by their fields, in the order in which the reference lists the forms.</summary>
internal static class RowShape
{
    /// <summary>Fields that hold a text, the first that is there.</summary>
    public static IReadOnlyList<string> TextFields { get; } = ["text", "content", "code", "func_code_string", "whole_func_string", "original_string"];

    private static readonly string[] CompletionFields = ["completion", "response"];

    /// <summary>The example of a row, or what is wrong with it.</summary>
    public static (Example? Example, string? Problem) Of(IReadOnlyDictionary<string, object?> row, RowFormat format) => format switch
    {
        RowFormat.Text => Text(row) is { } text ? (text, null) : Missing(row, "text"),
        RowFormat.Completion => Completion(row) ?? Missing(row, "prompt and completion"),
        RowFormat.Messages => Conversation(row, "messages", "role", "content") ?? Missing(row, "messages"),
        RowFormat.ShareGpt => Conversation(row, "conversations", "from", "value") ?? Missing(row, "conversations"),
        RowFormat.Alpaca => Alpaca(row) ?? Missing(row, "instruction and output"),
        _ => Completion(row) ?? Conversation(row, "messages", "role", "content") ?? (row.ContainsKey("text") && Text(row) is { } text ? (text, null) : ((Example?, string?)?)null)
            ?? Conversation(row, "conversations", "from", "value") ?? Alpaca(row) ?? (Text(row) is { } other ? (other, null) : ((Example?, string?)?)null) ?? Unknown(row),
    };

    /// <summary>The prompt of Stanford Alpaca's training code.</summary>
    public static string AlpacaPrompt(string instruction, string? input) => string.IsNullOrEmpty(input)
        ? "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
            + $"### Instruction:\n{instruction}\n\n### Response:\n"
        : "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n"
            + $"### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n";

    private static (Example? Example, string? Problem) Missing(IReadOnlyDictionary<string, object?> row, string what) => (null, $"no {what}; its fields are {Fields(row)}");

    private static (Example? Example, string? Problem) Unknown(IReadOnlyDictionary<string, object?> row) => row.ContainsKey("chosen") && row.ContainsKey("rejected")
        ? (null, "a preference row (chosen, rejected): there is no training on preferences")
        : (null, $"no text, no prompt with completion, no messages, no conversations, no instruction with output; its fields are {Fields(row)}");

    /// <summary>The names of a row's fields, for a message.</summary>
    public static string Fields(IReadOnlyDictionary<string, object?> row) => row.Count == 0 ? "none"
        : string.Join(", ", row.Take(8).Select(field => field.Key + Kind(field.Value))) + (row.Count > 8 ? ", …" : string.Empty);

    /// <summary>What a field is, where it is no text.</summary>
    private static string Kind(object? value) => value switch
    {
        null => " (null)",
        bool => " (true or false)",
        long or double => " (a number)",
        _ => string.Empty,
    };

    private static TextExample? Text(IReadOnlyDictionary<string, object?> row) =>
        TextFields.Select(name => row.GetValueOrDefault(name) as string).FirstOrDefault(text => text is not null) is { } found ? new TextExample(found) : null;

    private static (Example? Example, string? Problem)? Completion(IReadOnlyDictionary<string, object?> row)
    {
        object? completion = CompletionFields.Select(name => row.GetValueOrDefault(name)).FirstOrDefault(value => value is not null);
        switch (row.GetValueOrDefault("prompt"), completion)
        {
            case (string prompt, string text):
                return (new CompletionExample(prompt, text), null);
            case (IReadOnlyList<object?> prompt, IReadOnlyList<object?> text):
                (List<IReadOnlyDictionary<string, object?>>? messages, string? problem) = Messages([.. prompt, .. text], "role", "content");
                return messages is null ? (null, problem) : (new ChatExample(messages, Tools(row), prompt.Count), null);
            default:
                return null;
        }
    }

    private static (Example? Example, string? Problem)? Alpaca(IReadOnlyDictionary<string, object?> row)
    {
        if (row.GetValueOrDefault("instruction") is not string instruction || row.GetValueOrDefault("output") is not string output)
        {
            return null;
        }

        string? input = row.GetValueOrDefault("input") as string, system = row.GetValueOrDefault("system") as string;
        IReadOnlyList<object?> history = row.GetValueOrDefault("history") as IReadOnlyList<object?> ?? [];
        if (string.IsNullOrEmpty(system) && history.Count == 0)
        {
            return (new CompletionExample(AlpacaPrompt(instruction, input), output), null);
        }

        List<IReadOnlyDictionary<string, object?>> messages = string.IsNullOrEmpty(system) ? [] : [Message("system", system)];
        foreach (object? turn in history)
        {
            if (turn is not IReadOnlyList<object?> { Count: 2 } pair || pair[0] is not string question || pair[1] is not string answer)
            {
                return (null, "its history is no list of question and answer");
            }

            messages.Add(Message("user", question));
            messages.Add(Message("assistant", answer));
        }

        int given = messages.Count + 1;
        messages.Add(Message("user", string.IsNullOrEmpty(input) ? instruction : instruction + "\n" + input));
        messages.Add(Message("assistant", output));
        return (new ChatExample(messages, null, given), null);
    }

    private static (Example? Example, string? Problem)? Conversation(IReadOnlyDictionary<string, object?> row, string field, string role, string content)
    {
        object? value = row.GetValueOrDefault(field);
        if (value is IReadOnlyDictionary<string, object?> columns)
        {
            // Some sets of the Hub store a list of structures as a structure of lists.
            value = Transposed(columns);
        }

        if (value is not IReadOnlyList<object?> list)
        {
            return null;
        }

        // ShareGPT's own names stand under "messages" too, and the other way round.
        bool other = list.Count > 0 && list[0] is IReadOnlyDictionary<string, object?> first && !first.ContainsKey(role);
        (List<IReadOnlyDictionary<string, object?>>? messages, string? problem) = other ? Messages(list, role == "role" ? "from" : "role", role == "role" ? "value" : "content") : Messages(list, role, content);
        if (messages is null)
        {
            return (null, problem);
        }

        return messages.Any(message => message["role"] is "assistant")
            ? (new ChatExample(WithSystem(row, messages), Tools(row)), null)
            : (null, messages.Count == 0 ? "its conversation is empty" : "its conversation has no message of the assistant");
    }

    private static List<IReadOnlyDictionary<string, object?>> WithSystem(IReadOnlyDictionary<string, object?> row, List<IReadOnlyDictionary<string, object?>> messages) =>
        row.GetValueOrDefault("system") is string { Length: > 0 } system && messages[0]["role"] is not "system" ? [Message("system", system), .. messages] : messages;

    private static (List<IReadOnlyDictionary<string, object?>>? Messages, string? Problem) Messages(IReadOnlyList<object?> list, string role, string content)
    {
        List<IReadOnlyDictionary<string, object?>> messages = [];
        foreach (object? one in list)
        {
            if (one is not IReadOnlyDictionary<string, object?> message || message.GetValueOrDefault(role) is not string name)
            {
                return (null, $"message {messages.Count + 1} has no {role}");
            }

            OrderedDictionary<string, object?> made = new(StringComparer.Ordinal) { ["role"] = RoleOf(name), ["content"] = Flat(message.GetValueOrDefault(content)) };
            if (made["content"] is null && !message.ContainsKey("tool_calls"))
            {
                return (null, $"message {messages.Count + 1} has no {content}");
            }

            made["content"] ??= string.Empty;
            foreach (KeyValuePair<string, object?> pair in message.Where(pair => pair.Key != role && pair.Key != content && pair.Value is not null))
            {
                made[pair.Key] = pair.Value;
            }

            messages.Add(made);
        }

        return (messages, null);
    }

    private static string RoleOf(string name) => name switch
    {
        "human" => "user",
        "gpt" or "bot" or "model" or "function_call" => "assistant",
        "observation" or "function" or "tool_response" => "tool",
        _ => name,
    };

    /// <summary>Content in parts that are all text is one text.</summary>
    private static object? Flat(object? content) => content is IReadOnlyList<object?> parts && parts.All(part => part is IReadOnlyDictionary<string, object?> one && one.GetValueOrDefault("text") is string)
        ? string.Concat(parts.Select(part => (string)((IReadOnlyDictionary<string, object?>)part!)["text"]!))
        : content;

    private static List<object?>? Transposed(IReadOnlyDictionary<string, object?> columns)
    {
        if (columns.Count == 0 || !columns.Values.All(value => value is IReadOnlyList<object?>))
        {
            return null;
        }

        int count = columns.Values.Min(value => ((IReadOnlyList<object?>)value!).Count);
        return [.. Enumerable.Range(0, count).Select(i => (object?)new OrderedDictionary<string, object?>(
            columns.Select(pair => KeyValuePair.Create(pair.Key, ((IReadOnlyList<object?>)pair.Value!)[i])), StringComparer.Ordinal))];
    }

    private static OrderedDictionary<string, object?> Message(string role, string content) => new(StringComparer.Ordinal) { ["role"] = role, ["content"] = content };

    private static object? Tools(IReadOnlyDictionary<string, object?> row)
    {
        if (row.GetValueOrDefault("tools") is not string text)
        {
            return row.GetValueOrDefault("tools");
        }

        try
        {
            using System.Text.Json.JsonDocument document = System.Text.Json.JsonDocument.Parse(text);
            return JsonValues.Of(document.RootElement);
        }
        catch (Exception error) when (error is System.Text.Json.JsonException or InvalidOperationException)
        {
            return text;
        }
    }
}
