using Nibble.IO;
using Nibble.Templates;

namespace Nibble.Data;

/// <summary>What the fields of a row are.</summary>
public enum RowFormat
{
    /// <summary>Told by the fields that a row has.</summary>
    Auto,

    /// <summary><c>text</c>: all of it is trained on.</summary>
    Text,

    /// <summary><c>prompt</c> and <c>completion</c>: only the completion is trained on.</summary>
    Completion,

    /// <summary><c>messages</c>, each with <c>role</c> and <c>content</c>: only what the assistant says is trained on.</summary>
    Messages,

    /// <summary><c>instruction</c>, <c>input</c>, <c>output</c>, as Stanford Alpaca's.</summary>
    Alpaca,

    /// <summary><c>conversations</c>, each with <c>from</c> and <c>value</c>.</summary>
    ShareGpt,
}

/// <summary>How data is read.</summary>
public sealed record DataOptions
{
    /// <summary>What the fields of rows are.</summary>
    public RowFormat Format { get; init; }

    /// <summary>The split, of data that has several; null for the training split where there is one.</summary>
    public string? Split { get; init; }

    /// <summary>Count unusable rows instead of refusing the data.</summary>
    public bool SkipBad { get; init; }

    /// <summary>Turns conversations into text; rows that are conversations need it.</summary>
    public ChatTemplate? ChatTemplate { get; init; }

    /// <summary>Told what is worth knowing: that a part stands in for a whole, how many rows were left out.</summary>
    public Action<string>? Note { get; init; }

    /// <summary>Ceilings.</summary>
    public Limits Limits { get; init; } = Limits.Default;
}
