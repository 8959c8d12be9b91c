namespace Nibble.Templates;

/// <summary>
/// Cuts a template into tokens. White space as chat templates expect it: a newline after a block tag goes (trim_blocks), blanks
/// before a block tag that begins its line go (lstrip_blocks), '-' strips everything up to the next text, '+' strips nothing, and
/// one newline at the end of the template goes.
/// </summary>
internal sealed class TemplateLexer
{
    private readonly string _source;
    private readonly List<TemplateToken> _tokens = [];
    private int _at, _line = 1;
    private bool _lineStarts = true, _stripNext;

    private TemplateLexer(string source)
    {
        string text = source.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        _source = text.EndsWith('\n') ? text[..^1] : text;
    }

    /// <summary>All tokens, the end included.</summary>
    public static List<TemplateToken> Tokens(string source)
    {
        TemplateLexer lexer = new(source);
        lexer.Run();
        return lexer._tokens;
    }

    private void Run()
    {
        while (_at < _source.Length)
        {
            int tag = NextTag();
            char kind = tag < 0 ? '\0' : _source[tag + 1];
            char sign = tag < 0 || tag + 2 >= _source.Length ? '\0' : _source[tag + 2];
            AddText(_source[_at..(tag < 0 ? _source.Length : tag)], kind, sign);
            if (tag < 0)
            {
                break;
            }

            Advance(tag + (sign is '-' or '+' ? 3 : 2));
            Tag(kind);
        }

        _tokens.Add(new TemplateToken(TokenKind.End, string.Empty, _line));
    }

    private int NextTag()
    {
        for (int i = _source.IndexOf('{', _at); i >= 0 && i + 1 < _source.Length; i = _source.IndexOf('{', i + 1))
        {
            if (_source[i + 1] is '{' or '%' or '#')
            {
                return i;
            }
        }

        return -1;
    }

    private void AddText(string text, char kind, char sign)
    {
        if (_stripNext)
        {
            text = text.TrimStart();
            _stripNext = false;
        }

        if (sign == '-')
        {
            text = text.TrimEnd();
        }
        else if (kind is '%' or '#' && sign != '+')
        {
            int start = text.LastIndexOf('\n') + 1;
            text = (start > 0 || _lineStarts) && text.AsSpan(start).IsWhiteSpace() ? text[..start] : text;
        }

        if (text.Length > 0)
        {
            _tokens.Add(new TemplateToken(TokenKind.Text, text, _line));
        }
    }

    private void Tag(char kind)
    {
        switch (kind)
        {
            case '#':
                int end = _source.IndexOf("#}", _at, StringComparison.Ordinal);
                Need(end, "a comment has no end '#}'");
                char sign = end > _at ? _source[end - 1] : '\0';
                Advance(end + 2);
                AfterTag(sign, trimNewline: true);
                break;
            case '%' when RawBegin() is { } bodyStart:
                Raw(bodyStart);
                break;
            default:
                bool block = kind == '%';
                _tokens.Add(new TemplateToken(block ? TokenKind.BlockBegin : TokenKind.OutputBegin, block ? "{%" : "{{", _line));
                TagLexer tag = new(_source, _at, _line, block ? "%}" : "}}", _tokens);
                char closing = tag.Run();
                Advance(tag.Position);
                AfterTag(closing, trimNewline: block);
                break;
        }
    }

    private void AfterTag(char sign, bool trimNewline)
    {
        int start = _at;
        if (sign == '-')
        {
            _stripNext = true;
            int end = _at;
            while (end < _source.Length && char.IsWhiteSpace(_source[end]))
            {
                end++;
            }

            Advance(end);
        }
        else if (trimNewline && sign != '+' && _at < _source.Length && _source[_at] == '\n')
        {
            Advance(_at + 1);
        }

        _lineStarts = _at > start && _source[_at - 1] == '\n';
    }

    /// <summary>Where the body of a raw block begins, if one begins here.</summary>
    private int? RawBegin()
    {
        int at = SkipBlanks(_at);
        if (string.CompareOrdinal(_source, at, "raw", 0, 3) != 0)
        {
            return null;
        }

        at = SkipBlanks(at + 3);
        at += at < _source.Length && _source[at] == '-' ? 1 : 0;
        return string.CompareOrdinal(_source, at, "%}", 0, 2) == 0 ? at + 2 : null;
    }

    private void Raw(int bodyStart)
    {
        bool strip = _source[bodyStart - 3] == '-';
        int at = bodyStart;
        while (true)
        {
            int tag = _source.IndexOf("{%", at, StringComparison.Ordinal);
            Need(tag, "a raw block has no end");
            int name = SkipBlanks(tag + (tag + 2 < _source.Length && _source[tag + 2] is '-' or '+' ? 3 : 2));
            at = tag + 2;
            if (string.CompareOrdinal(_source, name, "endraw", 0, 6) != 0)
            {
                continue;
            }

            int end = _source.IndexOf("%}", name, StringComparison.Ordinal);
            Need(end, "a raw block has no end");
            Advance(bodyStart);
            _stripNext = strip;
            AddText(_source[bodyStart..tag], '%', _source[tag + 2]);
            char sign = _source[end - 1];
            Advance(end + 2);
            AfterTag(sign, trimNewline: true);
            return;
        }
    }

    private int SkipBlanks(int at)
    {
        while (at < _source.Length && char.IsWhiteSpace(_source[at]))
        {
            at++;
        }

        return at;
    }

    private void Need(int position, string message)
    {
        if (position < 0)
        {
            throw new TemplateError(message, _line);
        }
    }

    private void Advance(int to)
    {
        _line += _source.AsSpan(_at, to - _at).Count('\n');
        _at = to;
    }
}
