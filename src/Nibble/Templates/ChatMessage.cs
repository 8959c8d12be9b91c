namespace Nibble.Templates;

/// <summary>One message of a conversation.</summary>
/// <param name="Role"><c>system</c>, <c>user</c>, <c>assistant</c>, <c>tool</c> or whatever the model's template knows.</param>
/// <param name="Content">What is said.</param>
public sealed record ChatMessage(string Role, string Content)
{
    /// <summary>The message as templates see it.</summary>
    internal IReadOnlyDictionary<string, object?> Fields => new OrderedDictionary<string, object?>(StringComparer.Ordinal) { ["role"] = Role, ["content"] = Content };
}
