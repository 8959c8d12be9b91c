using System.Globalization;
using System.Text;

namespace Nibble.Templates;

/// <summary>The tokens inside one tag, up to its end.</summary>
internal sealed class TagLexer(string source, int start, int firstLine, string end, List<TemplateToken> tokens)
{
    private static readonly string[] Operators =
        ["**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"];

    private readonly Stack<char> _open = [];
    private int _at = start;
    private int _line = firstLine;

    /// <summary>Where the tag has ended.</summary>
    public int Position => _at;

    /// <summary>Reads the tag; returns the sign before its end ('-', '+' or anything else for none).</summary>
    public char Run()
    {
        while (true)
        {
            SkipBlanks();
            if (_at >= source.Length)
            {
                throw new TemplateError($"a tag has no end '{end}'", _line);
            }

            if (_open.Count == 0 && Ends() is { } sign)
            {
                tokens.Add(new TemplateToken(end == "%}" ? TokenKind.BlockEnd : TokenKind.OutputEnd, end, _line));
                return sign;
            }

            One(source[_at]);
        }
    }

    private char? Ends()
    {
        char first = source[_at];
        int at = _at + (first is '-' or '+' ? 1 : 0);
        if (string.CompareOrdinal(source, at, end, 0, 2) != 0)
        {
            return null;
        }

        _at = at + 2;
        return first;
    }

    private void SkipBlanks()
    {
        for (; _at < source.Length && char.IsWhiteSpace(source[_at]); _at++)
        {
            _line += source[_at] == '\n' ? 1 : 0;
        }
    }

    private void One(char first)
    {
        if (first is '"' or '\'')
        {
            tokens.Add(new TemplateToken(TokenKind.String, Quoted(first), _line));
        }
        else if (char.IsAsciiDigit(first))
        {
            Number();
        }
        else if (char.IsLetter(first) || first == '_')
        {
            int from = _at;
            while (_at < source.Length && (char.IsLetterOrDigit(source[_at]) || source[_at] == '_'))
            {
                _at++;
            }

            tokens.Add(new TemplateToken(TokenKind.Name, source[from.._at], _line));
        }
        else
        {
            Operator();
        }
    }

    private void Operator()
    {
        string? found = Operators.FirstOrDefault(text => string.CompareOrdinal(source, _at, text, 0, text.Length) == 0);
        if (found is null)
        {
            throw new TemplateError($"unexpected character '{source[_at]}'", _line);
        }

        if (found is "(" or "[" or "{")
        {
            _open.Push(found[0] == '(' ? ')' : found[0] == '[' ? ']' : '}');
        }
        else if (found is ")" or "]" or "}" && (!_open.TryPop(out char expected) || expected != found[0]))
        {
            throw new TemplateError($"unexpected '{found}'", _line);
        }

        tokens.Add(new TemplateToken(TokenKind.Operator, found, _line));
        _at += found.Length;
    }

    private void Number()
    {
        int from = _at;
        Digits();
        bool real = _at + 1 < source.Length && source[_at] == '.' && char.IsAsciiDigit(source[_at + 1]);
        if (real)
        {
            _at++;
            Digits();
        }

        if (_at < source.Length && source[_at] is 'e' or 'E')
        {
            real = true;
            _at += _at + 1 < source.Length && source[_at + 1] is '+' or '-' ? 2 : 1;
            Digits();
        }

        tokens.Add(new TemplateToken(real ? TokenKind.Float : TokenKind.Integer, source[from.._at].Replace("_", string.Empty, StringComparison.Ordinal), _line));
    }

    private void Digits()
    {
        while (_at < source.Length && (char.IsAsciiDigit(source[_at]) || source[_at] == '_'))
        {
            _at++;
        }
    }

    private string Quoted(char quote)
    {
        StringBuilder text = new();
        for (_at++; _at < source.Length && source[_at] != quote; _at++)
        {
            _line += source[_at] == '\n' ? 1 : 0;
            if (source[_at] == '\\' && _at + 1 < source.Length)
            {
                _at++;
                Escape(text, source[_at]);
            }
            else
            {
                text.Append(source[_at]);
            }
        }

        if (_at >= source.Length)
        {
            throw new TemplateError("a string has no end", _line);
        }

        _at++;
        return text.ToString();
    }

    private void Escape(StringBuilder text, char kind)
    {
        switch (kind)
        {
            case 'n': text.Append('\n'); break;
            case 't': text.Append('\t'); break;
            case 'r': text.Append('\r'); break;
            case 'a': text.Append('\a'); break;
            case 'b': text.Append('\b'); break;
            case 'f': text.Append('\f'); break;
            case 'v': text.Append('\v'); break;
            case '0': text.Append('\0'); break;
            case '\\' or '\'' or '"': text.Append(kind); break;
            case '\n': break;
            case 'x': Code(text, 2); break;
            case 'u': Code(text, 4); break;
            case 'U': Code(text, 8); break;
            default: text.Append('\\').Append(kind); break;
        }
    }

    private void Code(StringBuilder text, int digits)
    {
        if (_at + digits >= source.Length
            || !int.TryParse(source.AsSpan(_at + 1, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int code)
            || code is < 0 or > 0x10FFFF)
        {
            throw new TemplateError("an escape in a string has no valid code", _line);
        }

        _at += digits;
        text.Append(code is >= 0xD800 and < 0xE000 ? ((char)code).ToString() : char.ConvertFromUtf32(code));
    }
}
