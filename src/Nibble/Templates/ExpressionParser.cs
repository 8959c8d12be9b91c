using System.Globalization;

namespace Nibble.Templates;

/// <summary>Reads expressions; the order of operators is Jinja's.</summary>
internal sealed class ExpressionParser(TokenReader tokens)
{
    private static readonly string[] Comparisons = ["==", "!=", "<", "<=", ">", ">="];

    /// <summary>An expression, with its inline condition.</summary>
    public Expression Parse()
    {
        using IDisposable level = tokens.Nest();
        Expression value = Or();
        while (tokens.TakeName("if"))
        {
            Expression condition = Or();
            value = new ConditionalExpression(condition, value, tokens.TakeName("else") ? Parse() : null);
        }

        return value;
    }

    /// <summary>An expression, or several as a tuple.</summary>
    public Expression ParseTuple()
    {
        Expression first = Parse();
        if (!tokens.Current.IsOperator(","))
        {
            return first;
        }

        List<Expression> items = [first];
        while (tokens.TakeOperator(",") && tokens.Current.Kind is not (TokenKind.BlockEnd or TokenKind.OutputEnd) && !tokens.Current.IsOperator(")"))
        {
            items.Add(Parse());
        }

        return new ListExpression(items, tuple: true);
    }

    /// <summary>Filters without their value, as in a filter block.</summary>
    public Func<Expression, Expression> ParseFilters(bool leadingBar)
    {
        List<(string Name, ArgumentList Arguments)> filters = [];
        if (!leadingBar)
        {
            filters.Add(FilterName());
        }

        while (tokens.TakeOperator("|"))
        {
            filters.Add(FilterName());
        }

        return value => filters.Aggregate(value, (of, filter) => new FilterExpression(of, filter.Name, filter.Arguments));
    }

    /// <summary>What is looped over: no inline condition, which belongs to the loop.</summary>
    public Expression ParseIterable()
    {
        Expression first = Or();
        if (!tokens.Current.IsOperator(","))
        {
            return first;
        }

        List<Expression> items = [first];
        while (tokens.TakeOperator(","))
        {
            items.Add(Or());
        }

        return new ListExpression(items, tuple: true);
    }

    private Expression Or()
    {
        Expression left = And();
        while (tokens.TakeName("or"))
        {
            left = new LogicExpression(left, And(), and: false);
        }

        return left;
    }

    private Expression And()
    {
        Expression left = Not();
        while (tokens.TakeName("and"))
        {
            left = new LogicExpression(left, Not(), and: true);
        }

        return left;
    }

    private Expression Not()
    {
        using IDisposable level = tokens.Nest();
        return tokens.TakeName("not") ? new NotExpression(Not()) : Compare();
    }

    private Expression Compare()
    {
        Expression first = Sum();
        List<(string, Expression)> rest = [];
        while (ComparisonName() is { } name)
        {
            rest.Add((name, Sum()));
        }

        return rest.Count == 0 ? first : new CompareExpression(first, rest);
    }

    private string? ComparisonName()
    {
        if (tokens.Current.Kind == TokenKind.Operator && Comparisons.Contains(tokens.Current.Text))
        {
            return tokens.Take().Text;
        }

        if (tokens.TakeName("in"))
        {
            return "in";
        }

        if (tokens.Current.IsName("not") && tokens.Next.IsName("in"))
        {
            tokens.Take();
            tokens.Take();
            return "not in";
        }

        return null;
    }

    private Expression Sum() => Chain(Concat, "+", "-");

    private Expression Concat() => Chain(Product, "~");

    private Expression Product() => Chain(Power, "*", "/", "//", "%");

    private Expression Power() => Chain(() => Unary(filters: true), "**");

    private Expression Chain(Func<Expression> operand, params string[] names)
    {
        Expression left = operand();
        while (tokens.Current.Kind == TokenKind.Operator && names.Contains(tokens.Current.Text))
        {
            left = new BinaryExpression(tokens.Take().Text, left, operand());
        }

        return left;
    }

    private Expression Unary(bool filters)
    {
        using IDisposable level = tokens.Nest();
        Expression value = tokens.Current.IsOperator("-") || tokens.Current.IsOperator("+")
            ? new SignExpression(negative: tokens.Take().Text == "-", of: Unary(filters: false))
            : Postfix(Primary());
        return filters ? FiltersAndTests(value) : value;
    }

    private Expression Postfix(Expression value)
    {
        while (true)
        {
            if (tokens.TakeOperator("."))
            {
                value = tokens.Current.Kind == TokenKind.Integer
                    ? new ItemExpression(value, new LiteralExpression(Whole(tokens.Take())))
                    : new AttributeExpression(value, tokens.ExpectName("the name of an attribute"));
            }
            else if (tokens.TakeOperator("["))
            {
                value = Subscript(value);
            }
            else if (tokens.Current.IsOperator("("))
            {
                value = new CallExpression(value, Arguments());
            }
            else
            {
                return value;
            }
        }
    }

    private Expression Subscript(Expression of)
    {
        Expression? from = tokens.Current.IsOperator(":") ? null : Parse();
        if (tokens.TakeOperator("]"))
        {
            return new ItemExpression(of, from!);
        }

        tokens.ExpectOperator(":");
        Expression? to = tokens.Current.IsOperator(":") || tokens.Current.IsOperator("]") ? null : Parse();
        Expression? step = tokens.TakeOperator(":") && !tokens.Current.IsOperator("]") ? Parse() : null;
        tokens.ExpectOperator("]");
        return new SliceExpression(of, from, to, step);
    }

    private Expression FiltersAndTests(Expression value)
    {
        while (true)
        {
            if (tokens.TakeOperator("|"))
            {
                (string name, ArgumentList arguments) = FilterName();
                value = new FilterExpression(value, name, arguments);
            }
            else if (tokens.TakeName("is"))
            {
                value = Test(value);
            }
            else if (tokens.Current.IsOperator("("))
            {
                value = new CallExpression(value, Arguments());
            }
            else
            {
                return value;
            }
        }
    }

    private (string Name, ArgumentList Arguments) FilterName()
    {
        string name = tokens.ExpectName("the name of a filter");
        if (!Filters.Exists(name))
        {
            tokens.Fail($"there is no filter '{name}'");
        }

        return (name, tokens.Current.IsOperator("(") ? Arguments() : ArgumentList.Empty);
    }

    private Expression Test(Expression of)
    {
        bool negated = tokens.TakeName("not");
        string name = tokens.ExpectName("the name of a test");
        if (!TemplateTests.Exists(name))
        {
            tokens.Fail($"there is no test '{name}'");
        }

        ArgumentList arguments = tokens.Current.IsOperator("(") ? Arguments()
            : StartsArgument() ? new ArgumentList([Postfix(Primary())], [])
            : ArgumentList.Empty;
        Expression test = new TestExpression(of, name, arguments);
        return negated ? new NotExpression(test) : test;
    }

    private bool StartsArgument() => tokens.Current.Kind switch
    {
        TokenKind.String or TokenKind.Integer or TokenKind.Float => true,
        TokenKind.Name => tokens.Current.Text is not ("else" or "or" or "and" or "is" or "if" or "in" or "not" or "recursive"),
        TokenKind.Operator => tokens.Current.Text is "[" or "{",
        _ => false,
    };

    private ArgumentList Arguments()
    {
        using IDisposable level = tokens.Nest();
        tokens.ExpectOperator("(");
        List<Expression> positional = [];
        List<(string, Expression)> named = [];
        while (!tokens.TakeOperator(")"))
        {
            if (tokens.Current.IsOperator("*") || tokens.Current.IsOperator("**"))
            {
                tokens.Fail("arguments by '*' are not in the subset of Jinja that is read");
            }

            if (tokens.Current.Kind == TokenKind.Name && tokens.Next.IsOperator("="))
            {
                string name = tokens.Take().Text;
                tokens.Take();
                if (named.Any(other => other.Item1 == name))
                {
                    tokens.Fail($"the argument '{name}' is given twice");
                }

                named.Add((name, Parse()));
            }
            else if (named.Count > 0)
            {
                tokens.Fail("an argument without a name follows one with a name");
            }
            else
            {
                positional.Add(Parse());
            }

            if (!tokens.TakeOperator(",") && !tokens.Current.IsOperator(")"))
            {
                tokens.Unexpected("',' or ')'");
            }
        }

        return new ArgumentList(positional, named);
    }

    private Expression Primary()
    {
        TemplateToken token = tokens.Take();
        switch (token.Kind)
        {
            case TokenKind.Name:
                return token.Text switch
                {
                    "true" or "True" => new LiteralExpression(true),
                    "false" or "False" => new LiteralExpression(false),
                    "none" or "None" => new LiteralExpression(null),
                    _ => new NameExpression(token.Text),
                };
            case TokenKind.String:
                string text = token.Text;
                while (tokens.Current.Kind == TokenKind.String)
                {
                    text += tokens.Take().Text;
                }

                return new LiteralExpression(text);
            case TokenKind.Integer:
                return new LiteralExpression(Whole(token));
            case TokenKind.Float:
                return new LiteralExpression(Real(token));
            default:
                return Brackets(token);
        }
    }

    private Expression Brackets(TemplateToken token)
    {
        if (token.IsOperator("("))
        {
            Expression inside = tokens.Current.IsOperator(")") ? new ListExpression([], tuple: true) : ParseTuple();
            tokens.ExpectOperator(")");
            return inside;
        }

        if (token.IsOperator("["))
        {
            return new ListExpression(Listed("]", Parse));
        }

        if (token.IsOperator("{"))
        {
            return new MapExpression(Listed("}", () =>
            {
                Expression key = Parse();
                tokens.ExpectOperator(":");
                return (key, Parse());
            }));
        }

        tokens.Back();
        tokens.Unexpected("a value");
        return null!;
    }

    private List<T> Listed<T>(string end, Func<T> item)
    {
        List<T> items = [];
        while (!tokens.TakeOperator(end))
        {
            items.Add(item());
            if (!tokens.TakeOperator(",") && !tokens.Current.IsOperator(end))
            {
                tokens.Unexpected($"',' or '{end}'");
            }
        }

        return items;
    }

    private double Real(TemplateToken token)
    {
        if (!double.TryParse(token.Text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value))
        {
            tokens.Fail($"{token.Text} is no number");
        }

        return value;
    }

    private long Whole(TemplateToken token)
    {
        if (!long.TryParse(token.Text, NumberStyles.None, CultureInfo.InvariantCulture, out long value))
        {
            tokens.Fail($"{token.Text} is a whole number of more than 64 bits");
        }

        return value;
    }
}
