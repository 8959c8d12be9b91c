namespace Nibble.Templates;

/// <summary>Tests: <c>value is name</c>.</summary>
internal static class TemplateTests
{
    private delegate bool Test(object? value, CallArguments arguments, TemplateRun run);

    private static readonly Dictionary<string, Test> All = new(StringComparer.Ordinal)
    {
        ["defined"] = (value, _, _) => value is not Undefined,
        ["undefined"] = (value, _, _) => value is Undefined,
        ["none"] = (value, _, _) => value is null,
        ["boolean"] = (value, _, _) => value is bool,
        ["true"] = (value, _, _) => value is true,
        ["false"] = (value, _, _) => value is false,
        ["integer"] = (value, _, _) => value is long,
        ["float"] = (value, _, _) => value is double,
        ["number"] = (value, _, _) => Values.IsNumber(value),
        ["string"] = (value, _, _) => value is string,
        ["mapping"] = (value, _, _) => value is IReadOnlyDictionary<string, object?>,
        ["iterable"] = (value, _, _) => IsSequence(value),
        ["sequence"] = (value, _, _) => IsSequence(value),
        ["callable"] = (value, _, _) => value is TemplateFunction,
        ["even"] = (value, _, run) => Whole(value, run) % 2 == 0,
        ["odd"] = (value, _, run) => Whole(value, run) % 2 != 0,
        ["divisibleby"] = (value, arguments, run) => Whole(arguments.At(0, "num"), run) is var by && by != 0 && Whole(value, run) % by == 0,
        ["lower"] = (value, _, _) => value is string text && text.Any(char.IsLower) && !text.Any(char.IsUpper),
        ["upper"] = (value, _, _) => value is string text && text.Any(char.IsUpper) && !text.Any(char.IsLower),
        ["in"] = (value, arguments, run) => Values.Contains(arguments.At(0, "seq"), value, run),
        ["sameas"] = (value, arguments, _) => ReferenceEquals(value, arguments.At(0, "other")) || (value is bool or null && Equals(value, arguments.At(0, "other"))),
        ["eq"] = Equal,
        ["equalto"] = Equal,
        ["=="] = Equal,
        ["ne"] = (value, arguments, run) => !Equal(value, arguments, run),
        ["!="] = (value, arguments, run) => !Equal(value, arguments, run),
        ["lt"] = (value, arguments, run) => Compare(value, arguments, run) < 0,
        ["<"] = (value, arguments, run) => Compare(value, arguments, run) < 0,
        ["le"] = (value, arguments, run) => Compare(value, arguments, run) <= 0,
        ["gt"] = (value, arguments, run) => Compare(value, arguments, run) > 0,
        [">"] = (value, arguments, run) => Compare(value, arguments, run) > 0,
        ["ge"] = (value, arguments, run) => Compare(value, arguments, run) >= 0,
    };

    /// <summary>True if there is such a test.</summary>
    public static bool Exists(string name) => All.ContainsKey(name);

    /// <summary>The outcome.</summary>
    public static bool Holds(string name, object? value, CallArguments arguments, TemplateRun run)
    {
        run.Step();
        return All[name](value, arguments, run);
    }

    private static bool IsSequence(object? value) => value is string or IReadOnlyList<object?> or IReadOnlyDictionary<string, object?> or Undefined;

    private static bool Equal(object? value, CallArguments arguments, TemplateRun run) => Values.AreEqual(value, arguments.At(0, "other"), run);

    private static int Compare(object? value, CallArguments arguments, TemplateRun run) => Values.Compare(value, arguments.At(0, "other"), run);

    private static long Whole(object? value, TemplateRun run)
    {
        if (value is not (long or bool))
        {
            run.Fail($"a whole number is needed, not {Values.Describe(value)}");
        }

        return Values.Whole(value);
    }
}
