using System.Diagnostics.CodeAnalysis;

namespace Nibble.Templates;

/// <summary>Tokens one after the other, with the checks that parsers share.</summary>
internal sealed class TokenReader(IReadOnlyList<TemplateToken> tokens)
{
    private const int DeepestNesting = 200;
    private int _at, _depth;

    /// <summary>The token to read.</summary>
    public TemplateToken Current => tokens[_at];

    /// <summary>The one after it.</summary>
    public TemplateToken Next => tokens[Math.Min(_at + 1, tokens.Count - 1)];

    /// <summary>Reads a token.</summary>
    public TemplateToken Take() => tokens[_at < tokens.Count - 1 ? _at++ : _at];

    /// <summary>Goes back one.</summary>
    public void Back() => _at = Math.Max(0, _at - 1);

    /// <summary>Reads this operator if it stands here.</summary>
    public bool TakeOperator(string text) => TakeIf(Current.IsOperator(text));

    /// <summary>Reads this word if it stands here.</summary>
    public bool TakeName(string text) => TakeIf(Current.IsName(text));

    /// <summary>Reads an operator that must stand here.</summary>
    public void ExpectOperator(string text)
    {
        if (!TakeOperator(text))
        {
            Unexpected($"'{text}'");
        }
    }

    /// <summary>Reads a name that must stand here.</summary>
    public string ExpectName(string what)
    {
        if (Current.Kind != TokenKind.Name)
        {
            Unexpected(what);
        }

        return Take().Text;
    }

    /// <summary>Reads the end of a block tag.</summary>
    public void ExpectBlockEnd()
    {
        if (!TakeIf(Current.Kind == TokenKind.BlockEnd))
        {
            Unexpected("'%}'");
        }
    }

    /// <summary>One more level of nesting, until disposed.</summary>
    public IDisposable Nest()
    {
        if (++_depth > DeepestNesting)
        {
            Fail($"it is nested more than {DeepestNesting} deep");
        }

        return new Level(this);
    }

    /// <summary>Refuses the template.</summary>
    [DoesNotReturn]
    public void Fail(string message) => throw new TemplateError(message, Current.Line);

    /// <summary>Refuses the token.</summary>
    [DoesNotReturn]
    public void Unexpected(string expected) => Fail($"{Current} where {expected} is expected");

    private bool TakeIf(bool matches)
    {
        _at += matches ? 1 : 0;
        return matches;
    }

    private sealed class Level(TokenReader reader) : IDisposable
    {
        public void Dispose() => reader._depth--;
    }
}
