using Nibble.Evaluation.Protocols;
using Nibble.Models;

namespace Nibble.Evaluation;

/// <summary>What is measured and how; null means the default.</summary>
public sealed record EvaluationOptions
{
    /// <summary>Names of tasks.</summary>
    public IReadOnlyList<string> Tasks { get; init; } = ["perplexity"];

    /// <summary>A file, a folder, or a name (see <see cref="Texts.TextSource"/>).</summary>
    public string Data { get; init; } = "demo";

    /// <summary>Name of the protocol.</summary>
    public string Protocol { get; init; } = "window";

    /// <summary>Tokens of a window.</summary>
    public int? Window { get; init; }

    /// <summary>Tokens from one window to the next.</summary>
    public int? Stride { get; init; }

    /// <summary>How rows are joined; null takes what suits the data.</summary>
    public TextJoin? Join { get; init; }

    /// <summary>Most tokens of the text's beginning.</summary>
    public int? Limit { get; init; }

    /// <summary>Classification: the split that is measured.</summary>
    public string Split { get; init; } = "test";

    /// <summary>Classification: most rows of the split's beginning.</summary>
    public int? Rows { get; init; }

    /// <summary>Classification without a head: the prompt, with <c>{text}</c> where the text belongs; null for a plain question.</summary>
    public string? PromptTemplate { get; init; }

    /// <summary>Tokens of the prompt whose latency is measured.</summary>
    public int PromptTokens { get; init; } = 128;

    /// <summary>Tokens that are generated after it.</summary>
    public int DecodeTokens { get; init; } = 64;

    /// <summary>Measured runs, after one that warms up.</summary>
    public int Runs { get; init; } = 6;

    /// <summary>Folder to write a baseline to.</summary>
    public string? SaveBaseline { get; init; }

    /// <summary>Folder of the baseline to compare with.</summary>
    public string? Baseline { get; init; }

    /// <summary>Country whose electricity is used; null for the world's mean.</summary>
    public string? Country { get; init; }

    /// <summary>Seed of everything random.</summary>
    public int Seed { get; init; } = 1234;

    /// <summary>How the model is loaded.</summary>
    public LoadOptions Load { get; init; } = new();
}
