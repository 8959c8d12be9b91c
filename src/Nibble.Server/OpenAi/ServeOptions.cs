namespace Nibble.Server.OpenAi;

/// <summary>How a model is served.</summary>
public sealed record ServeOptions
{
    /// <summary>What the model is called in answers; null for the name of its folder or file.</summary>
    public string? Name { get; init; }

    /// <summary>What clients must send as <c>Authorization: Bearer KEY</c>; null lets everybody in.</summary>
    public string? ApiKey { get; init; }

    /// <summary>Origins whose web pages may ask (<c>http://localhost:3000</c>, or <c>*</c> for all).</summary>
    public IReadOnlyList<string> AllowedOrigins { get; init; } = [];

    /// <summary>Most new tokens of an answer whose request does not say.</summary>
    public int MaxTokens { get; init; } = 2048;

    /// <summary>Most answers that are generated at once; each may take the memory of a whole context.</summary>
    public int Parallel { get; init; } = 8;

    /// <summary>Most answers that wait for that.</summary>
    public int Queue { get; init; } = 64;

    /// <summary>Is told a line about each answer; never what was asked or answered.</summary>
    public Action<string>? Log { get; init; }

    /// <summary>How long answers may go on once the server is told to stop.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(4);
}
