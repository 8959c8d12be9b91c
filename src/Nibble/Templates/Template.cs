using Nibble.IO;

namespace Nibble.Templates;

/// <summary>
/// A template in the subset of Jinja that chat templates use: <c>for</c>, <c>if</c>, <c>set</c>, <c>macro</c>, <c>with</c>,
/// <c>filter</c>, <c>break</c>, <c>continue</c>, <c>generation</c>, namespaces, filters and tests. It is interpreted: it sees only the
/// values that it is given, and <see cref="Limits.TemplateSteps"/> and <see cref="Limits.TemplateOutput"/> bound what it does.
/// </summary>
internal sealed class Template
{
    private readonly IReadOnlyList<Statement> _body;
    private readonly Limits _limits;

    private Template(IReadOnlyList<Statement> body, Limits limits) => (_body, _limits) = (body, limits);

    /// <summary>Reads a template.</summary>
    /// <exception cref="TemplateError">It is none of the subset: what is wrong, in which line.</exception>
    public static Template Parse(string source, Limits? limits = null)
    {
        limits ??= Limits.Default;
        if (source.Length > limits.TemplateCharacters)
        {
            throw new TemplateError($"it has {source.Length:N0} characters, at most {limits.TemplateCharacters:N0} are read");
        }

        return new Template(StatementParser.Parse(source), limits);
    }

    /// <summary>Renders with these variables.</summary>
    /// <exception cref="TemplateError">It fails, refuses its input, or takes too much.</exception>
    public string Render(IEnumerable<KeyValuePair<string, object?>> variables, TimeProvider? clock = null)
    {
        TemplateRun run = new(_limits, clock ?? TimeProvider.System);
        Scope globals = new(null, run);
        Globals.AddTo(globals);
        Scope scope = globals.Inner();
        foreach (KeyValuePair<string, object?> pair in variables)
        {
            scope.Set(pair.Key, pair.Value);
        }

        Statement.RunAll(_body, scope);
        return run.Text;
    }
}
