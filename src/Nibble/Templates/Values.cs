using System.Collections;
using System.Text;

namespace Nibble.Templates;

/// <summary>What a name without a value gives: nothing in output, false in conditions, an error in everything else.</summary>
internal sealed record Undefined(string Name);

/// <summary>The changeable object that <c>namespace()</c> makes.</summary>
internal sealed class TemplateNamespace
{
    /// <summary>Its attributes.</summary>
    public Dictionary<string, object?> Values { get; } = new(StringComparer.Ordinal);
}

/// <summary>A tuple: a list that is written in round brackets.</summary>
internal sealed class TemplateTuple(IEnumerable<object?> items) : List<object?>(items);

/// <summary>Arguments of a call.</summary>
/// <param name="Positional">Those by place.</param>
/// <param name="Named">Those by name.</param>
internal sealed record CallArguments(IReadOnlyList<object?> Positional, IReadOnlyDictionary<string, object?> Named)
{
    /// <summary>No arguments.</summary>
    public static CallArguments None { get; } = new([], new Dictionary<string, object?>());

    /// <summary>An argument by place or name, or null.</summary>
    public object? At(int place, string name, object? otherwise = null) =>
        place < Positional.Count ? Positional[place] : Named.GetValueOrDefault(name, otherwise);
}

/// <summary>Something that can be called: a method, a macro or a global.</summary>
internal delegate object? TemplateFunction(CallArguments arguments, TemplateRun run);

/// <summary>
/// Values are null (none), bool, long, double, string, lists, dictionaries with string keys, namespaces, functions and
/// <see cref="Undefined"/>: nothing else ever gets in, and nothing is reached by reflection. Semantics are Python's.
/// </summary>
internal static class Values
{
    /// <summary>Truth of a value.</summary>
    public static bool IsTrue(object? value) => value switch
    {
        null or Undefined => false,
        bool flag => flag,
        long number => number != 0,
        double number => number != 0,
        string text => text.Length > 0,
        ICollection list => list.Count > 0,
        _ => true,
    };

    /// <summary>The name of a value's type as Python says it.</summary>
    public static string TypeName(object? value) => value switch
    {
        null => "none",
        Undefined => "undefined",
        bool => "bool",
        long => "int",
        double => "float",
        string => "str",
        IReadOnlyDictionary<string, object?> => "dict",
        IReadOnlyList<object?> => "list",
        TemplateNamespace => "namespace",
        _ => "function",
    };

    /// <summary>Equality.</summary>
    public static bool AreEqual(object? left, object? right, TemplateRun run)
    {
        run.Step();
        return (left, right) switch
        {
            (null, null) or (Undefined, Undefined) => true,
            (string a, string b) => string.Equals(a, b, StringComparison.Ordinal),
            (IReadOnlyDictionary<string, object?> a, IReadOnlyDictionary<string, object?> b) =>
                a.Count == b.Count && a.All(pair => b.TryGetValue(pair.Key, out object? other) && AreEqual(pair.Value, other, run)),
            (IReadOnlyList<object?> a, IReadOnlyList<object?> b) => a.Count == b.Count && a.Zip(b).All(pair => AreEqual(pair.First, pair.Second, run)),
            _ when IsNumber(left) && IsNumber(right) => left is double || right is double ? Real(left) == Real(right) : Whole(left) == Whole(right),
            _ => ReferenceEquals(left, right),
        };
    }

    /// <summary>Order of two numbers, strings or lists.</summary>
    public static int Compare(object? left, object? right, TemplateRun run)
    {
        run.Step();
        switch (left, right)
        {
            case (string a, string b):
                return string.CompareOrdinal(a, b);
            case (IReadOnlyList<object?> a, IReadOnlyList<object?> b):
                for (int i = 0; i < Math.Min(a.Count, b.Count); i++)
                {
                    if (!AreEqual(a[i], b[i], run))
                    {
                        return Compare(a[i], b[i], run);
                    }
                }

                return a.Count.CompareTo(b.Count);
            case var _ when IsNumber(left) && IsNumber(right):
                return left is double || right is double ? Real(left).CompareTo(Real(right)) : Whole(left).CompareTo(Whole(right));
            default:
                run.Fail($"{Describe(left)} and {Describe(right)} can't be ordered");
                return 0;
        }
    }

    /// <summary>True for numbers; truth values count as 0 and 1.</summary>
    public static bool IsNumber(object? value) => value is long or double or bool;

    /// <summary>A number as a real.</summary>
    public static double Real(object? value) => value switch { double real => real, long whole => whole, bool flag => flag ? 1 : 0, _ => double.NaN };

    /// <summary>A whole number.</summary>
    public static long Whole(object? value) => value switch { long whole => whole, bool flag => flag ? 1 : 0, _ => 0 };

    /// <summary>The items of a value: of a list its own, of a dictionary the keys, of a string the characters.</summary>
    public static IReadOnlyList<object?> Items(object? value, TemplateRun run)
    {
        switch (value)
        {
            case IReadOnlyList<object?> list:
                return list;
            case IReadOnlyDictionary<string, object?> map:
                return [.. map.Keys];
            case string text:
                run.Charge(text.Length);
                return [.. text.EnumerateRunes().Select(rune => (object?)rune.ToString())];
            case Undefined:
                return [];
            default:
                run.Fail($"{Describe(value)} can't be iterated over");
                return [];
        }
    }

    /// <summary>How many items a value has; a string's are code points.</summary>
    public static long Length(object? value, TemplateRun run)
    {
        switch (value)
        {
            case string text:
                return text.EnumerateRunes().Count();
            case ICollection list:
                return list.Count;
            case Undefined:
                return 0;
            default:
                run.Fail($"{Describe(value)} has no length");
                return 0;
        }
    }

    /// <summary>True if <paramref name="container"/> has the value.</summary>
    public static bool Contains(object? container, object? value, TemplateRun run)
    {
        switch (container)
        {
            case string text:
                if (value is not string part)
                {
                    run.Fail($"{Describe(value)} can't be in a string");
                    return false;
                }

                return text.Contains(part, StringComparison.Ordinal);
            case IReadOnlyDictionary<string, object?> map:
                return value is string key && map.ContainsKey(key);
            default:
                return Items(container, run).Any(item => AreEqual(item, value, run));
        }
    }

    /// <summary>The value as messages name it.</summary>
    public static string Describe(object? value) => value is Undefined missing ? $"'{missing.Name}', which is undefined," : $"a value of type {TypeName(value)}";

    /// <summary>A string argument.</summary>
    public static string Text(object? value, string what, TemplateRun run)
    {
        if (value is not string text)
        {
            run.Fail($"{what} needs a string, not {Describe(value)}");
            return string.Empty;
        }

        return text;
    }

    /// <summary>Reverses by code points.</summary>
    public static string Reverse(string text)
    {
        StringBuilder reversed = new(text.Length);
        foreach (Rune rune in text.EnumerateRunes().Reverse())
        {
            reversed.Append(rune.ToString());
        }

        return reversed.ToString();
    }
}
