using System.Globalization;

namespace Nibble.Templates;

/// <summary>Functions that every template sees.</summary>
internal static class Globals
{
    private const int LongestRange = 100_000;

    /// <summary>Puts them into a scope.</summary>
    public static void AddTo(Scope scope)
    {
        scope.Set("range", (TemplateFunction)Range);
        scope.Set("namespace", (TemplateFunction)Namespace);
        scope.Set("dict", (TemplateFunction)Dict);
        scope.Set("raise_exception", (TemplateFunction)Raise);
        scope.Set("strftime_now", (TemplateFunction)((arguments, run) => TimeText.Format(run.Clock.GetLocalNow(), Values.Text(arguments.At(0, "format"), "strftime_now", run), run)));
    }

    private static object? Range(CallArguments arguments, TemplateRun run)
    {
        long[] given = [.. arguments.Positional.Select(value => value is long whole ? whole : Refuse(value, run))];
        (long from, long to, long step) = given.Length switch
        {
            1 => (0, given[0], 1),
            2 => (given[0], given[1], 1),
            3 when given[2] != 0 => (given[0], given[1], given[2]),
            _ => (0, -1, 0),
        };
        if (step == 0)
        {
            run.Fail("range needs one to three whole numbers, the third not 0");
        }

        double count = Math.Max(0, Math.Ceiling(((double)to - from) / step));
        if (count > LongestRange)
        {
            run.Fail($"a range of more than {LongestRange:N0} numbers");
        }

        run.Charge((long)count);
        List<object?> numbers = new((int)count);
        for (long i = 0; i < (long)count; i++)
        {
            numbers.Add(from + (i * step));
        }

        return numbers;
    }

    private static long Refuse(object? value, TemplateRun run)
    {
        run.Fail($"range needs whole numbers, not {Values.Describe(value)}");
        return 0;
    }

    private static object? Namespace(CallArguments arguments, TemplateRun run)
    {
        TemplateNamespace space = new();
        foreach (KeyValuePair<string, object?> pair in arguments.Positional.OfType<IReadOnlyDictionary<string, object?>>().SelectMany(map => map).Concat(arguments.Named))
        {
            space.Values[pair.Key] = pair.Value;
        }

        return space;
    }

    private static object? Dict(CallArguments arguments, TemplateRun run)
    {
        OrderedDictionary<string, object?> map = new(StringComparer.Ordinal);
        foreach (KeyValuePair<string, object?> pair in arguments.Positional.OfType<IReadOnlyDictionary<string, object?>>().SelectMany(one => one).Concat(arguments.Named))
        {
            map[pair.Key] = pair.Value;
        }

        return map;
    }

    private static object? Raise(CallArguments arguments, TemplateRun run) =>
        throw new TemplateError(PythonText.Of(arguments.At(0, "message"), run), run.Line) { Raised = true };
}
