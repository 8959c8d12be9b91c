namespace Nibble.Templates;

/// <summary>A template that can't be read or rendered; becomes a NibbleException where its file is known.</summary>
internal sealed class TemplateError : Exception
{
    public TemplateError(string message)
        : base(message)
    {
    }

    public TemplateError(string message, int line)
        : base(message) => Line = line;

    /// <summary>Line of the template, from 1; 0 where none is known.</summary>
    public int Line { get; init; }

    /// <summary>True if the template itself refuses its input (<c>raise_exception</c>).</summary>
    public bool Raised { get; init; }
}
