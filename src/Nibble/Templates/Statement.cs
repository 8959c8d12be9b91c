namespace Nibble.Templates;

/// <summary>How a list of statements ended.</summary>
internal enum Flow
{
    /// <summary>At its end.</summary>
    Next,

    /// <summary>The loop goes on with its next item.</summary>
    Continue,

    /// <summary>The loop ends.</summary>
    Break,
}

/// <summary>A node that writes or does something.</summary>
internal abstract class Statement(int line)
{
    /// <summary>Runs it.</summary>
    public Flow Run(Scope scope)
    {
        scope.Run.Line = line;
        scope.Run.Step();
        return Render(scope);
    }

    /// <summary>Runs several.</summary>
    public static Flow RunAll(IReadOnlyList<Statement> body, Scope scope)
    {
        foreach (Statement statement in body)
        {
            Flow flow = statement.Run(scope);
            if (flow != Flow.Next)
            {
                return flow;
            }
        }

        return Flow.Next;
    }

    /// <summary>Does the work.</summary>
    protected abstract Flow Render(Scope scope);
}

/// <summary>Text as it stands.</summary>
internal sealed class TextStatement(string text, int line) : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        scope.Run.Write(text);
        return Flow.Next;
    }
}

/// <summary><c>{{ x }}</c>.</summary>
internal sealed class OutputStatement(Expression value, int line) : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        scope.Run.Write(PythonText.Of(value.Evaluate(scope), scope.Run));
        return Flow.Next;
    }
}

/// <summary><c>{% if %}</c> with all its branches; the last condition may be null (else).</summary>
internal sealed class IfStatement(IReadOnlyList<(Expression? Condition, IReadOnlyList<Statement> Body)> branches, int line) : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        foreach ((Expression? condition, IReadOnlyList<Statement> body) in branches)
        {
            if (condition is null || condition.IsTrue(scope))
            {
                return RunAll(body, scope);
            }
        }

        return Flow.Next;
    }
}

/// <summary><c>{% set a = x %}</c>, <c>{% set ns.a = x %}</c>, <c>{% set a, b = x %}</c>.</summary>
internal sealed class SetStatement(AssignTarget target, Expression value, int line) : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        target.Assign(value.Evaluate(scope), scope);
        return Flow.Next;
    }
}

/// <summary><c>{% set a %}…{% endset %}</c>, with filters.</summary>
internal sealed class SetBlockStatement(AssignTarget target, IReadOnlyList<Statement> body, Func<Expression, Expression> filter, int line) : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        string text = scope.Run.Capture(() => RunAll(body, scope.Inner()));
        target.Assign(filter(new LiteralExpression(text)).Evaluate(scope), scope);
        return Flow.Next;
    }
}

/// <summary><c>{% filter f %}…{% endfilter %}</c>.</summary>
internal sealed class FilterStatement(IReadOnlyList<Statement> body, Func<Expression, Expression> filter, int line) : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        string text = scope.Run.Capture(() => RunAll(body, scope.Inner()));
        scope.Run.Write(PythonText.Of(filter(new LiteralExpression(text)).Evaluate(scope), scope.Run));
        return Flow.Next;
    }
}

/// <summary>Statements in a scope of their own: <c>{% with %}</c>, and <c>{% generation %}</c>, which only marks text.</summary>
internal sealed class BlockStatement(IReadOnlyList<(string Name, Expression Value)> variables, IReadOnlyList<Statement> body, int line) : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        Scope inner = scope.Inner();
        foreach ((string name, Expression value) in variables)
        {
            inner.Set(name, value.Evaluate(scope));
        }

        return RunAll(body, inner);
    }
}

/// <summary><c>{% break %}</c> and <c>{% continue %}</c>.</summary>
internal sealed class JumpStatement(Flow flow, int line) : Statement(line)
{
    protected override Flow Render(Scope scope) => flow;
}

/// <summary><c>{% macro name(a, b=x) %}</c>.</summary>
internal sealed class MacroStatement(string name, IReadOnlyList<(string Name, Expression? Default)> parameters, IReadOnlyList<Statement> body, int line) : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        scope.Set(name, (TemplateFunction)((arguments, run) => Call(arguments, scope, run)));
        return Flow.Next;
    }

    private string Call(CallArguments arguments, Scope scope, TemplateRun run)
    {
        string? unknown = arguments.Named.Keys.FirstOrDefault(key => parameters.All(parameter => parameter.Name != key));
        if (unknown is not null || arguments.Positional.Count > parameters.Count)
        {
            run.Fail($"macro '{name}' takes {parameters.Count} arguments" + (unknown is null ? $", not {arguments.Positional.Count}" : $", none named '{unknown}'"));
        }

        int line = run.Line;
        Scope inner = scope.Inner();
        for (int i = 0; i < parameters.Count; i++)
        {
            (string parameter, Expression? otherwise) = parameters[i];
            object? value = i < arguments.Positional.Count ? arguments.Positional[i]
                : arguments.Named.TryGetValue(parameter, out object? given) ? given
                : otherwise is null ? new Undefined(parameter) : otherwise.Evaluate(inner);
            inner.Set(parameter, value);
        }

        string text = run.Capture(() => RunAll(body, inner));
        run.Line = line;
        return text;
    }
}
