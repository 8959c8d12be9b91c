namespace Nibble.Templates;

/// <summary>A node that has a value.</summary>
internal abstract class Expression
{
    /// <summary>The value in a scope.</summary>
    public object? Evaluate(Scope scope)
    {
        scope.Run.Step();
        return Value(scope);
    }

    /// <summary>Truth of the value.</summary>
    public bool IsTrue(Scope scope) => Values.IsTrue(Evaluate(scope));

    /// <summary>Computes the value.</summary>
    protected abstract object? Value(Scope scope);
}

/// <summary>A constant.</summary>
internal sealed class LiteralExpression(object? value) : Expression
{
    protected override object? Value(Scope scope) => value;
}

/// <summary>A variable.</summary>
internal sealed class NameExpression(string name) : Expression
{
    public string Name => name;

    protected override object? Value(Scope scope) => scope.Get(name);
}

/// <summary>A list or tuple.</summary>
internal sealed class ListExpression(IReadOnlyList<Expression> items, bool tuple = false) : Expression
{
    protected override object? Value(Scope scope)
    {
        scope.Run.Charge(items.Count);
        IEnumerable<object?> values = items.Select(item => item.Evaluate(scope));
        return tuple ? new TemplateTuple(values) : values.ToList();
    }
}

/// <summary>A dictionary.</summary>
internal sealed class MapExpression(IReadOnlyList<(Expression Key, Expression Value)> pairs) : Expression
{
    protected override object? Value(Scope scope)
    {
        scope.Run.Charge(pairs.Count);
        OrderedDictionary<string, object?> map = new(StringComparer.Ordinal);
        foreach ((Expression key, Expression value) in pairs)
        {
            map[Values.Text(key.Evaluate(scope), "a key of a dictionary", scope.Run)] = value.Evaluate(scope);
        }

        return map;
    }
}

/// <summary><c>not x</c>.</summary>
internal sealed class NotExpression(Expression of) : Expression
{
    protected override object? Value(Scope scope) => !of.IsTrue(scope);
}

/// <summary><c>a and b</c>, <c>a or b</c>: the value that decided.</summary>
internal sealed class LogicExpression(Expression left, Expression right, bool and) : Expression
{
    protected override object? Value(Scope scope)
    {
        object? first = left.Evaluate(scope);
        return Values.IsTrue(first) == and ? right.Evaluate(scope) : first;
    }
}

/// <summary><c>a if c else b</c>.</summary>
internal sealed class ConditionalExpression(Expression condition, Expression then, Expression? otherwise) : Expression
{
    protected override object? Value(Scope scope) =>
        condition.IsTrue(scope) ? then.Evaluate(scope) : otherwise is null ? new Undefined("the inline if without else") : otherwise.Evaluate(scope);
}

/// <summary>A chain of comparisons: <c>a &lt; b &lt;= c</c>.</summary>
internal sealed class CompareExpression(Expression first, IReadOnlyList<(string Operator, Expression Right)> rest) : Expression
{
    protected override object? Value(Scope scope)
    {
        object? left = first.Evaluate(scope);
        foreach ((string name, Expression next) in rest)
        {
            object? right = next.Evaluate(scope);
            if (!Holds(name, left, right, scope.Run))
            {
                return false;
            }

            left = right;
        }

        return true;
    }

    private static bool Holds(string name, object? left, object? right, TemplateRun run) => name switch
    {
        "==" => Values.AreEqual(left, right, run),
        "!=" => !Values.AreEqual(left, right, run),
        "in" => Values.Contains(right, left, run),
        "not in" => !Values.Contains(right, left, run),
        "<" => Values.Compare(left, right, run) < 0,
        "<=" => Values.Compare(left, right, run) <= 0,
        ">" => Values.Compare(left, right, run) > 0,
        _ => Values.Compare(left, right, run) >= 0,
    };
}

/// <summary>Arithmetic and joining of texts.</summary>
internal sealed class BinaryExpression(string name, Expression left, Expression right) : Expression
{
    protected override object? Value(Scope scope) => Arithmetic.Apply(name, left.Evaluate(scope), right.Evaluate(scope), scope.Run);
}

/// <summary><c>-x</c> and <c>+x</c>.</summary>
internal sealed class SignExpression(Expression of, bool negative) : Expression
{
    protected override object? Value(Scope scope)
    {
        object? value = of.Evaluate(scope);
        return Arithmetic.Apply("*", value, Values.IsNumber(value) ? negative ? -1L : 1L : null, scope.Run);
    }
}

/// <summary><c>a.b</c>.</summary>
internal sealed class AttributeExpression(Expression of, string name) : Expression
{
    protected override object? Value(Scope scope) => Attributes.Get(of.Evaluate(scope), name, scope.Run);
}

/// <summary><c>a[b]</c>.</summary>
internal sealed class ItemExpression(Expression of, Expression key) : Expression
{
    protected override object? Value(Scope scope) => Attributes.Item(of.Evaluate(scope), key.Evaluate(scope), scope.Run);
}

/// <summary><c>a[b:c:d]</c>.</summary>
internal sealed class SliceExpression(Expression of, Expression? from, Expression? to, Expression? step) : Expression
{
    protected override object? Value(Scope scope) =>
        Attributes.Slice(of.Evaluate(scope), from?.Evaluate(scope), to?.Evaluate(scope), step?.Evaluate(scope), scope.Run);
}

/// <summary>A call.</summary>
internal sealed class CallExpression(Expression of, ArgumentList arguments) : Expression
{
    protected override object? Value(Scope scope)
    {
        object? function = of.Evaluate(scope);
        if (function is not TemplateFunction call)
        {
            scope.Run.Fail($"{Values.Describe(function)} can't be called");
            return null;
        }

        return call(arguments.Evaluate(scope), scope.Run);
    }
}

/// <summary><c>x | name(arguments)</c>.</summary>
internal sealed class FilterExpression(Expression of, string name, ArgumentList arguments) : Expression
{
    protected override object? Value(Scope scope) => Filters.Apply(name, of.Evaluate(scope), arguments.Evaluate(scope), scope.Run);
}

/// <summary><c>x is name(arguments)</c>.</summary>
internal sealed class TestExpression(Expression of, string name, ArgumentList arguments) : Expression
{
    protected override object? Value(Scope scope) => TemplateTests.Holds(name, of.Evaluate(scope), arguments.Evaluate(scope), scope.Run);
}

/// <summary>The arguments written at a call.</summary>
internal sealed class ArgumentList(IReadOnlyList<Expression> positional, IReadOnlyList<(string Name, Expression Value)> named)
{
    public static ArgumentList Empty { get; } = new([], []);

    public CallArguments Evaluate(Scope scope) => positional.Count + named.Count == 0
        ? CallArguments.None
        : new CallArguments([.. positional.Select(one => one.Evaluate(scope))], named.ToDictionary(one => one.Name, one => one.Value.Evaluate(scope), StringComparer.Ordinal));
}
