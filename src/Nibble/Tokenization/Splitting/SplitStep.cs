using System.Runtime.InteropServices;

namespace Nibble.Tokenization;

/// <summary>Cuts a text at matches; what is a match, the subclass says.</summary>
internal abstract class SplitStep(SplitBehavior behavior, bool invert) : PieceStep
{
    /// <inheritdoc/>
    public override void Accept(ReadOnlySpan<char> text, bool atStart, EncodeState state)
    {
        if (text.IsEmpty)
        {
            return;
        }

        foreach ((int start, int end) in Arrange(Cover(Matches(text), text.Length)))
        {
            Next.Accept(text[start..end], atStart && start == 0, state);
        }
    }

    /// <summary>The stretches that match, in order and not overlapping.</summary>
    protected abstract List<(int Start, int End)> Matches(ReadOnlySpan<char> text);

    /// <summary>Matches and the gaps between them, which together are the text.</summary>
    private List<Part> Cover(List<(int Start, int End)> matches, int length)
    {
        List<Part> parts = new((matches.Count * 2) + 1);
        int at = 0;
        foreach ((int start, int end) in matches)
        {
            if (start > at)
            {
                parts.Add(new Part(at, start, invert));
            }

            parts.Add(new Part(start, end, !invert));
            at = end;
        }

        if (at < length)
        {
            parts.Add(new Part(at, length, invert));
        }

        return parts;
    }

    private IEnumerable<(int Start, int End)> Arrange(List<Part> parts) => behavior switch
    {
        SplitBehavior.Removed => parts.Where(part => !part.IsMatch).Select(part => (part.Start, part.End)),
        SplitBehavior.Isolated => parts.Select(part => (part.Start, part.End)),
        SplitBehavior.Contiguous => Join(parts, (before, part) => before.IsMatch == part.IsMatch),
        SplitBehavior.MergedWithPrevious => Join(parts, (before, part) => part.IsMatch && !before.IsMatch),
        _ => Join(parts, (before, part) => before.IsMatch && !part.IsMatch),
    };

    /// <summary>Joins neighbours for which the condition holds.</summary>
    private static List<(int Start, int End)> Join(List<Part> parts, Func<Part, Part, bool> joins)
    {
        List<(int Start, int End)> result = [];
        for (int i = 0; i < parts.Count; i++)
        {
            if (i > 0 && joins(parts[i - 1], parts[i]))
            {
                CollectionsMarshal.AsSpan(result)[^1].End = parts[i].End;
            }
            else
            {
                result.Add((parts[i].Start, parts[i].End));
            }
        }

        return result;
    }

    private readonly record struct Part(int Start, int End, bool IsMatch);
}

/// <summary>Cuts at what a pattern matches.</summary>
internal sealed class RegexSplitStep(CodePointRegex pattern, SplitBehavior behavior, bool invert) : SplitStep(behavior, invert)
{
    /// <inheritdoc/>
    protected override List<(int Start, int End)> Matches(ReadOnlySpan<char> text) => pattern.Matches(text);
}

/// <summary>Cuts at a fixed text.</summary>
internal sealed class TextSplitStep(string pattern, SplitBehavior behavior, bool invert) : SplitStep(behavior, invert)
{
    /// <inheritdoc/>
    protected override List<(int Start, int End)> Matches(ReadOnlySpan<char> text)
    {
        List<(int Start, int End)> found = [];
        int at = 0;
        while (pattern.Length > 0 && text[at..].IndexOf(pattern, StringComparison.Ordinal) is int place and >= 0)
        {
            found.Add((at + place, at + place + pattern.Length));
            at += place + pattern.Length;
        }

        return found;
    }
}
