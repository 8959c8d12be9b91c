namespace Nibble.Templates;

/// <summary><c>{% for x in list if condition %}…{% else %}…{% endfor %}</c>.</summary>
internal sealed class ForStatement(AssignTarget target, Expression list, Expression? condition, IReadOnlyList<Statement> body, IReadOnlyList<Statement> otherwise, int line)
    : Statement(line)
{
    protected override Flow Render(Scope scope)
    {
        IReadOnlyList<object?> items = Values.Items(list.Evaluate(scope), scope.Run);
        if (condition is not null)
        {
            items = [.. items.Where(item => Keeps(item, scope))];
        }

        if (items.Count == 0)
        {
            return RunAll(otherwise, scope.Inner());
        }

        LoopVariables variables = new(items);
        for (int i = 0; i < items.Count; i++)
        {
            scope.Run.Step();
            variables.At = i;
            Scope inner = scope.Inner();
            inner.Set("loop", variables);
            target.Assign(items[i], inner);
            if (RunAll(body, inner) == Flow.Break)
            {
                break;
            }
        }

        return Flow.Next;
    }

    private bool Keeps(object? item, Scope scope)
    {
        Scope inner = scope.Inner();
        target.Assign(item, inner);
        return condition!.IsTrue(inner);
    }
}

/// <summary>The object <c>loop</c>.</summary>
internal sealed class LoopVariables(IReadOnlyList<object?> items)
{
    private object? _last;
    private bool _seen;

    /// <summary>Place of the item, from 0.</summary>
    public int At { get; set; }

    /// <summary>An attribute.</summary>
    public object? Get(string name) => name switch
    {
        "index" => (long)At + 1,
        "index0" => (long)At,
        "revindex" => (long)items.Count - At,
        "revindex0" => (long)items.Count - At - 1,
        "first" => At == 0,
        "last" => At == items.Count - 1,
        "length" => (long)items.Count,
        "depth" => 1L,
        "depth0" => 0L,
        "previtem" => At > 0 ? items[At - 1] : new Undefined("loop.previtem"),
        "nextitem" => At + 1 < items.Count ? items[At + 1] : new Undefined("loop.nextitem"),
        "cycle" => (TemplateFunction)((arguments, run) => Cycle(arguments, run)),
        "changed" => (TemplateFunction)((arguments, run) => Changed(arguments, run)),
        _ => new Undefined("loop." + name),
    };

    private object? Cycle(CallArguments arguments, TemplateRun run)
    {
        if (arguments.Positional.Count == 0)
        {
            run.Fail("loop.cycle needs values");
        }

        return arguments.Positional[At % arguments.Positional.Count];
    }

    private bool Changed(CallArguments arguments, TemplateRun run)
    {
        List<object?> now = [.. arguments.Positional];
        bool changed = !_seen || !Values.AreEqual(_last, now, run);
        (_last, _seen) = (now, true);
        return changed;
    }
}
