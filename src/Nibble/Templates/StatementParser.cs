namespace Nibble.Templates;

/// <summary>Reads the statements of a template.</summary>
internal sealed class StatementParser
{
    private readonly TokenReader _tokens;
    private readonly ExpressionParser _expressions;
    private int _loops;

    private StatementParser(string source)
    {
        _tokens = new TokenReader(TemplateLexer.Tokens(source));
        _expressions = new ExpressionParser(_tokens);
    }

    /// <summary>Reads a whole template.</summary>
    public static IReadOnlyList<Statement> Parse(string source)
    {
        StatementParser parser = new(source);
        return parser.Body("template", out _);
    }

    /// <summary>Statements up to one of the end words, whose tag is read up to its name.</summary>
    private List<Statement> Body(string of, out string end, params string[] ends)
    {
        using IDisposable level = _tokens.Nest();
        int opened = _tokens.Current.Line;
        List<Statement> body = [];
        while (true)
        {
            TemplateToken token = _tokens.Take();
            switch (token.Kind)
            {
                case TokenKind.Text:
                    body.Add(new TextStatement(token.Text, token.Line));
                    break;
                case TokenKind.OutputBegin:
                    body.Add(new OutputStatement(_expressions.ParseTuple(), token.Line));
                    ExpectOutputEnd();
                    break;
                case TokenKind.End when ends.Length == 0:
                    end = string.Empty;
                    return body;
                case TokenKind.End:
                    throw new TemplateError($"'{of}' has no '{ends[^1]}'", opened);
                default:
                    string word = _tokens.ExpectName("a statement");
                    if (ends.Contains(word))
                    {
                        end = word;
                        return body;
                    }

                    body.Add(Tag(word, token.Line));
                    break;
            }
        }
    }

    private void ExpectOutputEnd()
    {
        if (_tokens.Current.Kind != TokenKind.OutputEnd)
        {
            _tokens.Unexpected("'}}'");
        }

        _tokens.Take();
    }

    private List<Statement> Block(string of)
    {
        List<Statement> body = Body(of, out _, "end" + of);
        if (of == "macro" && _tokens.Current.Kind == TokenKind.Name)
        {
            _tokens.Take();
        }

        _tokens.ExpectBlockEnd();
        return body;
    }

    private Statement Tag(string word, int line)
    {
        switch (word)
        {
            case "if":
                return If(line);
            case "for":
                return For(line);
            case "set":
                return Set(line);
            case "macro":
                return Macro(line);
            case "with":
                return With(line);
            case "filter":
                Func<Expression, Expression> filter = _expressions.ParseFilters(leadingBar: false);
                _tokens.ExpectBlockEnd();
                return new FilterStatement(Block(word), filter, line);
            case "generation":
                _tokens.ExpectBlockEnd();
                return new BlockStatement([], Block(word), line);
            case "break" or "continue" when _loops > 0:
                _tokens.ExpectBlockEnd();
                return new JumpStatement(word == "break" ? Flow.Break : Flow.Continue, line);
            default:
                string why = word is "include" or "import" or "from" or "extends" or "block" or "call" or "autoescape" or "do"
                    ? "is not in the subset of Jinja that is read" : "is no statement that fits here";
                throw new TemplateError($"'{word}' {why}", line);
        }
    }

    private IfStatement If(int line)
    {
        List<(Expression?, IReadOnlyList<Statement>)> branches = [];
        Expression? condition = _expressions.ParseTuple();
        while (true)
        {
            _tokens.ExpectBlockEnd();
            List<Statement> body = condition is null ? Body("if", out string end, "endif") : Body("if", out end, "elif", "else", "endif");
            branches.Add((condition, body));
            if (end == "endif")
            {
                _tokens.ExpectBlockEnd();
                return new IfStatement(branches, line);
            }

            condition = end == "elif" ? _expressions.ParseTuple() : null;
        }
    }

    private ForStatement For(int line)
    {
        AssignTarget target = Names();
        if (!_tokens.TakeName("in"))
        {
            _tokens.Unexpected("'in'");
        }

        Expression list = _expressions.ParseIterable();
        Expression? condition = _tokens.TakeName("if") ? _expressions.Parse() : null;
        if (_tokens.TakeName("recursive"))
        {
            _tokens.Fail("a recursive loop is not in the subset of Jinja that is read");
        }

        _tokens.ExpectBlockEnd();
        _loops++;
        List<Statement> body = Body("for", out string end, "else", "endfor");
        _loops--;
        _tokens.ExpectBlockEnd();
        return new ForStatement(target, list, condition, body, end == "else" ? Block("for") : [], line);
    }

    private Statement Set(int line)
    {
        AssignTarget target = _tokens.Next.IsOperator(".") ? Attribute() : Names();
        if (_tokens.TakeOperator("="))
        {
            Expression value = _expressions.ParseTuple();
            _tokens.ExpectBlockEnd();
            return new SetStatement(target, value, line);
        }

        Func<Expression, Expression> filter = _expressions.ParseFilters(leadingBar: true);
        _tokens.ExpectBlockEnd();
        return new SetBlockStatement(target, Block("set"), filter, line);
    }

    private AssignTarget Attribute()
    {
        string name = _tokens.ExpectName("the name of a namespace");
        _tokens.ExpectOperator(".");
        return new AssignTarget([name], _tokens.ExpectName("the name of an attribute"), unpack: false);
    }

    private AssignTarget Names()
    {
        bool bracket = _tokens.TakeOperator("(");
        List<string> names = [_tokens.ExpectName("a name")];
        bool unpack = false;
        while (_tokens.TakeOperator(","))
        {
            unpack = true;
            names.Add(_tokens.ExpectName("a name"));
        }

        if (bracket)
        {
            _tokens.ExpectOperator(")");
        }

        return new AssignTarget(names, null, unpack);
    }

    private MacroStatement Macro(int line)
    {
        string name = _tokens.ExpectName("the name of a macro");
        _tokens.ExpectOperator("(");
        List<(string, Expression?)> parameters = [];
        while (!_tokens.TakeOperator(")"))
        {
            string parameter = _tokens.ExpectName("the name of a parameter");
            parameters.Add((parameter, _tokens.TakeOperator("=") ? _expressions.Parse() : null));
            if (!_tokens.TakeOperator(",") && !_tokens.Current.IsOperator(")"))
            {
                _tokens.Unexpected("',' or ')'");
            }
        }

        _tokens.ExpectBlockEnd();
        int loops = _loops;
        _loops = 0;
        List<Statement> body = Block("macro");
        _loops = loops;
        return new MacroStatement(name, parameters, body, line);
    }

    private BlockStatement With(int line)
    {
        List<(string, Expression)> variables = [];
        while (_tokens.Current.Kind == TokenKind.Name)
        {
            string name = _tokens.Take().Text;
            _tokens.ExpectOperator("=");
            variables.Add((name, _expressions.Parse()));
            _tokens.TakeOperator(",");
        }

        _tokens.ExpectBlockEnd();
        return new BlockStatement(variables, Block("with"), line);
    }
}
