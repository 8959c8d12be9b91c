namespace Nibble.Templates;

/// <summary>Variables of a loop, macro or template, over those around it.</summary>
internal sealed class Scope(Scope? parent, TemplateRun run)
{
    private readonly Dictionary<string, object?> _values = new(StringComparer.Ordinal);

    /// <summary>The rendering.</summary>
    public TemplateRun Run => run;

    /// <summary>A value, or <see cref="Undefined"/>.</summary>
    public object? Get(string name)
    {
        for (Scope? scope = this; scope is not null; scope = scope.Parent)
        {
            if (scope._values.TryGetValue(name, out object? value))
            {
                return value;
            }
        }

        return new Undefined(name);
    }

    /// <summary>Sets a variable of this scope.</summary>
    public void Set(string name, object? value) => _values[name] = value;

    /// <summary>A scope inside of this one.</summary>
    public Scope Inner() => new(this, run);

    private Scope? Parent => parent;
}
