using System.Globalization;

namespace Nibble.Templates;

/// <summary>Filters: <c>value | name(arguments)</c>.</summary>
internal static class Filters
{
    private delegate object? Filter(object? value, CallArguments arguments, TemplateRun run);

    private static readonly Dictionary<string, Filter> All = new(StringComparer.Ordinal)
    {
        ["abs"] = (value, _, run) => Number(value, "abs", run) is double real ? Math.Abs(real) : Values.Whole(value) < 0 ? Arithmetic.Apply("-", 0L, value, run) : Values.Whole(value),
        ["attr"] = (value, arguments, run) => Attributes.Get(value, Values.Text(arguments.At(0, "name"), "attr", run), run),
        ["capitalize"] = (value, _, run) => StringMethods.Capitalize(PythonText.Of(value, run)),
        ["default"] = Default,
        ["d"] = Default,
        ["dictsort"] = (value, _, run) => SequenceFilters.Sort(Attributes.Pairs(Map(value, "dictsort", run), run), null, false, false, run),
        ["escape"] = (value, _, run) => Escape(PythonText.Of(value, run)),
        ["e"] = (value, _, run) => Escape(PythonText.Of(value, run)),
        ["first"] = (value, _, run) => Values.Items(value, run) is { Count: > 0 } items ? items[0] : new Undefined("first of nothing"),
        ["float"] = (value, arguments, _) => ToReal(value) ?? arguments.At(0, "default", 0.0),
        ["indent"] = Indent,
        ["int"] = (value, arguments, _) => ToWhole(value) ?? arguments.At(0, "default", 0L),
        ["items"] = (value, _, run) => value is Undefined ? new List<object?>() : Attributes.Pairs(Map(value, "items", run), run),
        ["join"] = (value, arguments, run) => SequenceFilters.Join(value, arguments, run),
        ["last"] = (value, _, run) => Values.Items(value, run) is { Count: > 0 } items ? items[^1] : new Undefined("last of nothing"),
        ["length"] = (value, _, run) => Values.Length(value, run),
        ["count"] = (value, _, run) => Values.Length(value, run),
        ["list"] = (value, _, run) => Values.Items(value, run).ToList(),
        ["lower"] = (value, _, run) => PythonText.Of(value, run).ToLowerInvariant(),
        ["map"] = SequenceFilters.Map,
        ["max"] = (value, _, run) => SequenceFilters.Extreme(value, 1, run),
        ["min"] = (value, _, run) => SequenceFilters.Extreme(value, -1, run),
        ["reject"] = (value, arguments, run) => SequenceFilters.Select(value, arguments, attribute: false, keep: false, run),
        ["rejectattr"] = (value, arguments, run) => SequenceFilters.Select(value, arguments, attribute: true, keep: false, run),
        ["replace"] = (value, arguments, run) => StringMethods.Replace(
            PythonText.Of(value, run), PythonText.Of(arguments.At(0, "old"), run), PythonText.Of(arguments.At(1, "new"), run), arguments.At(2, "count") is long most ? most : long.MaxValue, run),
        ["reverse"] = (value, _, run) => value is string text ? Values.Reverse(text) : Values.Items(value, run).Reverse().ToList(),
        ["round"] = Round,
        ["safe"] = (value, _, _) => value,
        ["select"] = (value, arguments, run) => SequenceFilters.Select(value, arguments, attribute: false, keep: true, run),
        ["selectattr"] = (value, arguments, run) => SequenceFilters.Select(value, arguments, attribute: true, keep: true, run),
        ["sort"] = (value, arguments, run) => SequenceFilters.Sort(
            Values.Items(value, run), arguments.At(2, "attribute") as string, Values.IsTrue(arguments.At(0, "reverse")), !Values.IsTrue(arguments.At(1, "case_sensitive")), run),
        ["string"] = (value, _, run) => PythonText.Of(value, run),
        ["sum"] = (value, _, run) => Values.Items(value, run).Aggregate((object?)0L, (sum, item) => Arithmetic.Apply("+", sum, item, run)),
        ["title"] = (value, _, run) => StringMethods.Headline(PythonText.Of(value, run)),
        ["tojson"] = ToJson,
        ["trim"] = (value, arguments, run) => StringMethods.Strip(PythonText.Of(value, run), "trim", arguments.At(0, "chars"), run),
        ["unique"] = (value, _, run) => SequenceFilters.Unique(Values.Items(value, run), run),
        ["upper"] = (value, _, run) => PythonText.Of(value, run).ToUpperInvariant(),
        ["wordcount"] = (value, _, run) => (long)PythonText.Of(value, run).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Length,
    };

    /// <summary>True if there is such a filter.</summary>
    public static bool Exists(string name) => All.ContainsKey(name);

    /// <summary>Applies a filter.</summary>
    public static object? Apply(string name, object? value, CallArguments arguments, TemplateRun run)
    {
        object? result = All[name](value, arguments, run);
        run.Charge(result is string text ? text.Length : 0);
        return result;
    }

    private static object? Default(object? value, CallArguments arguments, TemplateRun run) =>
        value is Undefined || (Values.IsTrue(arguments.At(1, "boolean")) && !Values.IsTrue(value)) ? arguments.At(0, "default_value", string.Empty) : value;

    private static object? Number(object? value, string name, TemplateRun run)
    {
        if (!Values.IsNumber(value))
        {
            run.Fail($"{name} needs a number, not {Values.Describe(value)}");
        }

        return value;
    }

    private static IReadOnlyDictionary<string, object?> Map(object? value, string name, TemplateRun run)
    {
        if (value is not IReadOnlyDictionary<string, object?> map)
        {
            run.Fail($"{name} needs a dictionary, not {Values.Describe(value)}");
            return new Dictionary<string, object?>();
        }

        return map;
    }

    private static string Escape(string text) => text
        .Replace("&", "&amp;", StringComparison.Ordinal).Replace("<", "&lt;", StringComparison.Ordinal).Replace(">", "&gt;", StringComparison.Ordinal)
        .Replace("'", "&#39;", StringComparison.Ordinal).Replace("\"", "&#34;", StringComparison.Ordinal);

    private static object? ToReal(object? value) => value switch
    {
        _ when Values.IsNumber(value) => Values.Real(value),
        string text when double.TryParse(text.Trim(), NumberStyles.Float, CultureInfo.InvariantCulture, out double real) => real,
        _ => null,
    };

    private static object? ToWhole(object? value) => value switch
    {
        long or bool => Values.Whole(value),
        double real when Math.Abs(real) < 9e18 => (long)real,
        string text when long.TryParse(text.Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long whole) => whole,
        string text when ToReal(text) is double real && Math.Abs(real) < 9e18 => (long)real,
        _ => null,
    };

    private static object? Round(object? value, CallArguments arguments, TemplateRun run)
    {
        double number = Values.Real(Number(value, "round", run));
        double scale = Math.Pow(10, Math.Clamp(Values.Whole(arguments.At(0, "precision", 0L)), -15, 15));
        return arguments.At(1, "method", "common") switch
        {
            "ceil" => Math.Ceiling(number * scale) / scale,
            "floor" => Math.Floor(number * scale) / scale,
            _ => scale >= 1 ? Math.Round(number, (int)Math.Log10(scale), MidpointRounding.ToEven) : Math.Round(number * scale) / scale,
        };
    }

    private static object? Indent(object? value, CallArguments arguments, TemplateRun run)
    {
        object? width = arguments.At(0, "width", 4L);
        string blanks = width is string given ? given : new string(' ', (int)Math.Clamp(Values.Whole(width), 0, 1024));
        bool first = Values.IsTrue(arguments.At(1, "first")), blank = Values.IsTrue(arguments.At(2, "blank"));
        string[] lines = PythonText.Of(value, run).Split('\n');
        run.Charge((long)blanks.Length * lines.Length);
        return string.Join('\n', lines.Select((line, i) => (i == 0 ? first : blank || line.Length > 0) ? blanks + line : line));
    }

    private static object? ToJson(object? value, CallArguments arguments, TemplateRun run)
    {
        // The order of arguments is that of transformers' own filter, which replaces Jinja's.
        (string, string)? separators = arguments.At(2, "separators") is IReadOnlyList<object?> { Count: 2 } pair ? (PythonText.Of(pair[0], run), PythonText.Of(pair[1], run)) : null;
        int? indent = arguments.At(1, "indent") is long width ? (int)Math.Clamp(width, 0, 64) : null;
        return PythonText.Json(value, indent, Values.IsTrue(arguments.At(3, "sort_keys")), Values.IsTrue(arguments.At(0, "ensure_ascii")), separators, run);
    }
}
