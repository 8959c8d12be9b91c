namespace Nibble.Templates;

/// <summary>Attributes, items and slices of values.</summary>
internal static class Attributes
{
    /// <summary><c>value.name</c>: a method, else an item of that name.</summary>
    public static object? Get(object? value, string name, TemplateRun run)
    {
        switch (value)
        {
            case Undefined missing:
                run.Fail($"'{missing.Name}' is undefined: it has no '{name}'");
                return null;
            case LoopVariables loop:
                return loop.Get(name);
            case TemplateNamespace space:
                return space.Values.TryGetValue(name, out object? held) ? held : new Undefined(name);
            case string text:
                return StringMethods.Find(text, name) ?? (object)new Undefined(name);
            case IReadOnlyDictionary<string, object?> map:
                return MapMethod(map, name) ?? (map.TryGetValue(name, out object? item) ? item : new Undefined(name));
            case IReadOnlyList<object?> list:
                return ListMethod(list, name) ?? (long.TryParse(name, out long place) ? Item(list, place, run) : new Undefined(name));
            default:
                return new Undefined(name);
        }
    }

    /// <summary><c>value[key]</c>.</summary>
    public static object? Item(object? value, object? key, TemplateRun run)
    {
        switch (value, key)
        {
            case (Undefined missing, _):
                run.Fail($"'{missing.Name}' is undefined: it has no items");
                return null;
            case (IReadOnlyDictionary<string, object?> map, string name):
                return map.TryGetValue(name, out object? item) ? item : MapMethod(map, name) ?? (object)new Undefined(name);
            case (IReadOnlyList<object?> list, long or bool):
                long place = Values.Whole(key);
                place += place < 0 ? list.Count : 0;
                return place >= 0 && place < list.Count ? list[(int)place] : new Undefined($"item {Values.Whole(key)}");
            case (string text, long or bool):
                IReadOnlyList<object?> characters = Values.Items(text, run);
                return Item(characters, key, run);
            case (_, string name):
                return Get(value, name, run);
            default:
                return new Undefined(PythonText.Of(key, run));
        }
    }

    /// <summary><c>value[from:to:step]</c>.</summary>
    public static object? Slice(object? value, object? from, object? to, object? step, TemplateRun run)
    {
        if (value is not (string or IReadOnlyList<object?>))
        {
            run.Fail($"{Values.Describe(value)} can't be cut");
        }

        IReadOnlyList<object?> items = Values.Items(value, run);
        long stride = Bound(step, 1, run);
        if (stride == 0)
        {
            run.Fail("a slice with step 0");
        }

        long count = items.Count;
        long lowest = stride > 0 ? 0 : -1, highest = stride > 0 ? count : count - 1;
        long Place(object? bound, long otherwise)
        {
            long place = Bound(bound, otherwise, run);
            return bound is null ? otherwise : Math.Clamp(place < 0 ? place + count : place, lowest, highest);
        }

        long start = Place(from, stride > 0 ? 0 : count - 1), end = Place(to, stride > 0 ? count : -1);
        List<object?> cut = [];
        for (long i = start; stride > 0 ? i < end : i > end; i += stride)
        {
            cut.Add(items[(int)i]);
        }

        run.Charge(cut.Count);
        return value is string ? string.Concat(cut) : cut;
    }

    private static long Bound(object? value, long otherwise, TemplateRun run)
    {
        if (value is null)
        {
            return otherwise;
        }

        if (value is not long whole)
        {
            run.Fail($"a slice needs whole numbers, not {Values.Describe(value)}");
            return 0;
        }

        return Math.Clamp(whole, -int.MaxValue, int.MaxValue);
    }

    private static TemplateFunction? MapMethod(IReadOnlyDictionary<string, object?> map, string name) => name switch
    {
        "items" => (_, run) => Pairs(map, run),
        "keys" => (_, _) => map.Keys.Cast<object?>().ToList(),
        "values" => (_, _) => map.Values.ToList(),
        "get" => (arguments, _) => arguments.At(0, "key") is string key && map.TryGetValue(key, out object? value) ? value : arguments.At(1, "default"),
        "update" or "pop" or "setdefault" or "clear" or "popitem" => Refusal(name),
        _ => null,
    };

    /// <summary>Key and value of each entry.</summary>
    public static List<object?> Pairs(IReadOnlyDictionary<string, object?> map, TemplateRun run)
    {
        run.Charge(2L * map.Count);
        return [.. map.Select(pair => (object?)new TemplateTuple([pair.Key, pair.Value]))];
    }

    private static TemplateFunction? ListMethod(IReadOnlyList<object?> list, string name) => name switch
    {
        "index" => (arguments, run) => IndexOf(list, arguments.At(0, "value"), run),
        "count" => (arguments, run) => list.LongCount(item => Values.AreEqual(item, arguments.At(0, "value"), run)),
        "append" or "extend" or "insert" or "pop" or "remove" or "reverse" or "sort" or "clear" => Refusal(name),
        _ => null,
    };

    private static object? IndexOf(IReadOnlyList<object?> list, object? value, TemplateRun run)
    {
        for (int i = 0; i < list.Count; i++)
        {
            if (Values.AreEqual(list[i], value, run))
            {
                return (long)i;
            }
        }

        run.Fail("index: the value is not in the list");
        return null;
    }

    private static TemplateFunction Refusal(string name) => (_, run) =>
    {
        run.Fail($"'{name}' would change a value: templates can't");
        return null;
    };
}
