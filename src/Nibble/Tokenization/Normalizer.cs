using System.Text;

namespace Nibble.Tokenization;

/// <summary>Changes a text before it is cut into pieces.</summary>
internal abstract class Normalizer
{
    /// <summary>The changed text.</summary>
    public abstract string Apply(string text);
}

/// <summary>Several normalizers, one after the other.</summary>
internal sealed class SequenceNormalizer(IReadOnlyList<Normalizer> steps) : Normalizer
{
    /// <inheritdoc/>
    public override string Apply(string text)
    {
        foreach (Normalizer step in steps)
        {
            text = step.Apply(text);
        }

        return text;
    }
}

/// <summary>Unicode normalization.</summary>
internal sealed class UnicodeNormalizer(NormalizationForm form) : Normalizer
{
    /// <inheritdoc/>
    public override string Apply(string text) => UnicodeNormalization.Normalize(text, form);
}

/// <summary>Lower case, character by character.</summary>
internal sealed class LowercaseNormalizer : Normalizer
{
    /// <inheritdoc/>
    /// <remarks>U+0130 is the one character whose lower case has two characters.</remarks>
    public override string Apply(string text) => text.ToLowerInvariant().Replace("\u0130", "i\u0307", StringComparison.Ordinal);
}

/// <summary>Removes white space at the ends.</summary>
internal sealed class StripNormalizer(bool left, bool right) : Normalizer
{
    /// <inheritdoc/>
    public override string Apply(string text)
    {
        text = left ? text.TrimStart() : text;
        return right ? text.TrimEnd() : text;
    }
}

/// <summary>Puts a text in front, except of nothing.</summary>
internal sealed class PrependNormalizer(string prefix) : Normalizer
{
    /// <inheritdoc/>
    public override string Apply(string text) => text.Length > 0 ? prefix + text : text;
}

/// <summary>Replaces a text by another.</summary>
internal sealed class ReplaceNormalizer(string pattern, string content) : Normalizer
{
    /// <inheritdoc/>
    public override string Apply(string text) =>
        pattern.Length == 1 && content.Length == 1 ? text.Replace(pattern[0], content[0]) : text.Replace(pattern, content, StringComparison.Ordinal);
}

/// <summary>Replaces what a pattern matches by a fixed text.</summary>
internal sealed class PatternNormalizer(CodePointRegex pattern, string content) : Normalizer
{
    /// <inheritdoc/>
    public override string Apply(string text)
    {
        List<(int Start, int End)> matches = pattern.Matches(text);
        if (matches.Count == 0)
        {
            return text;
        }

        StringBuilder result = new(text.Length);
        int from = 0;
        foreach ((int start, int end) in matches)
        {
            result.Append(text, from, start - from).Append(content);
            from = end;
        }

        return result.Append(text, from, text.Length - from).ToString();
    }
}

/// <summary>
/// SentencePiece's <c>remove_extra_whitespaces</c>: spaces at the ends are dropped and runs of them become one. Only the space
/// itself counts, as in the reference implementation without a character map.
/// </summary>
internal sealed class ExtraSpacesNormalizer : Normalizer
{
    /// <inheritdoc/>
    public override string Apply(string text)
    {
        text = text.Trim(' ');
        if (!text.Contains("  ", StringComparison.Ordinal))
        {
            return text;
        }

        StringBuilder result = new(text.Length);
        foreach (char unit in text)
        {
            if (unit != ' ' || result[^1] != ' ')
            {
                result.Append(unit);
            }
        }

        return result.ToString();
    }
}
