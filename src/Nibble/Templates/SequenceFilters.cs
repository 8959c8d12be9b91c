namespace Nibble.Templates;

/// <summary>Filters over lists.</summary>
internal static class SequenceFilters
{
    /// <summary>Items or their attributes as one text.</summary>
    public static string Join(object? value, CallArguments arguments, TemplateRun run)
    {
        string separator = PythonText.Of(arguments.At(0, "d", string.Empty), run);
        string? attribute = arguments.At(1, "attribute") as string;
        List<string> texts = [.. Values.Items(value, run).Select(item => PythonText.Of(attribute is null ? item : Path(item, attribute, run), run))];
        run.Charge(texts.Sum(text => (long)text.Length + separator.Length));
        return string.Join(separator, texts);
    }

    /// <summary>An attribute of each item, or each item through a filter.</summary>
    public static object? Map(object? value, CallArguments arguments, TemplateRun run)
    {
        IReadOnlyList<object?> items = Values.Items(value, run);
        if (arguments.Positional.Count > 0)
        {
            string name = Values.Text(arguments.Positional[0], "map", run);
            if (!Filters.Exists(name))
            {
                run.Fail($"map knows no filter '{name}'");
            }

            CallArguments rest = new([.. arguments.Positional.Skip(1)], arguments.Named);
            return items.Select(item => Filters.Apply(name, item, rest, run)).ToList();
        }

        string attribute = Values.Text(arguments.At(0, "attribute"), "map", run);
        bool hasDefault = arguments.Named.TryGetValue("default", out object? otherwise);
        return items.Select(item => Path(item, attribute, run) is var found && found is Undefined && hasDefault ? otherwise : found).ToList();
    }

    /// <summary>Items for which a test of them, or of an attribute, holds.</summary>
    public static object? Select(object? value, CallArguments arguments, bool attribute, bool keep, TemplateRun run)
    {
        int skip = attribute ? 1 : 0;
        string path = attribute ? Values.Text(arguments.At(0, "attribute"), "selectattr", run) : string.Empty;
        string? test = arguments.Positional.Count > skip ? Values.Text(arguments.Positional[skip], "a test's name", run) : null;
        if (test is not null && !TemplateTests.Exists(test))
        {
            run.Fail($"there is no test '{test}'");
        }

        CallArguments rest = new([.. arguments.Positional.Skip(skip + 1)], arguments.Named);
        bool Holds(object? item)
        {
            object? tested = attribute ? Path(item, path, run) : item;
            return test is null ? Values.IsTrue(tested) : TemplateTests.Holds(test, tested, rest, run);
        }

        return Values.Items(value, run).Where(item => Holds(item) == keep).ToList();
    }

    /// <summary>Items in order; texts without regard to case unless asked to.</summary>
    public static List<object?> Sort(IReadOnlyList<object?> items, string? attribute, bool reverse, bool ignoreCase, TemplateRun run)
    {
        run.Charge(items.Count);
        object? Key(object? item)
        {
            object? key = attribute is null ? item : Path(item, attribute, run);
            return ignoreCase && key is string text ? text.ToLowerInvariant() : key;
        }

        Comparer<object?> order = Comparer<object?>.Create((left, right) =>
        {
            run.Step();
            return Values.Compare(left, right, run);
        });
        try
        {
            return [.. reverse ? items.OrderByDescending(Key, order) : items.OrderBy(Key, order)];
        }
        catch (InvalidOperationException error) when (error.InnerException is TemplateError)
        {
            throw error.InnerException;
        }
    }

    /// <summary>Each value once.</summary>
    public static List<object?> Unique(IReadOnlyList<object?> items, TemplateRun run)
    {
        List<object?> kept = [];
        foreach (object? item in items)
        {
            run.Charge(kept.Count);
            if (!kept.Any(other => Values.AreEqual(Fold(other), Fold(item), run)))
            {
                kept.Add(item);
            }
        }

        return kept;
    }

    /// <summary>The smallest (−1) or largest (1) item.</summary>
    public static object? Extreme(object? value, int sign, TemplateRun run)
    {
        IReadOnlyList<object?> items = Values.Items(value, run);
        return items.Count == 0 ? new Undefined("extreme of nothing") : items.Aggregate((best, item) => sign * Values.Compare(Fold(item), Fold(best), run) > 0 ? item : best);
    }

    private static object? Fold(object? value) => value is string text ? text.ToLowerInvariant() : value;

    private static object? Path(object? item, string path, TemplateRun run) =>
        path.Split('.').Aggregate(item, (value, name) => value is Undefined ? value : Attributes.Item(value, long.TryParse(name, out long place) ? place : name, run));
}
