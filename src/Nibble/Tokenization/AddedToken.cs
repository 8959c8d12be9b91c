namespace Nibble.Tokenization;

/// <summary>A token that is found in the text before anything else is done with it.</summary>
internal sealed record AddedToken(int Id, string Content)
{
    /// <summary>A control token, no part of a text.</summary>
    public bool Special { get; init; }

    /// <summary>Found in the normalized text rather than in the raw one.</summary>
    public bool Normalized { get; init; }

    /// <summary>The content is written as normalized text already.</summary>
    public bool IsNormalForm { get; init; }

    /// <summary>Counts only between word boundaries.</summary>
    public bool SingleWord { get; init; }

    /// <summary>Takes the white space on its left.</summary>
    public bool StripLeft { get; init; }

    /// <summary>Takes the white space on its right.</summary>
    public bool StripRight { get; init; }
}
