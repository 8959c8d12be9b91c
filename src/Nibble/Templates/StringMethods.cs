namespace Nibble.Templates;

/// <summary>The methods of texts, as Python's.</summary>
internal static class StringMethods
{
    /// <summary>A method, or null.</summary>
    public static TemplateFunction? Find(string text, string name) => name switch
    {
        "strip" or "lstrip" or "rstrip" => (arguments, run) => Strip(text, name, arguments.At(0, "chars"), run),
        "split" or "rsplit" => (arguments, run) => Split(text, arguments, name == "rsplit", run),
        "splitlines" => (_, run) => Lines(text, run),
        "startswith" => (arguments, run) => Affixes(arguments, run).Any(one => text.StartsWith(one, StringComparison.Ordinal)),
        "endswith" => (arguments, run) => Affixes(arguments, run).Any(one => text.EndsWith(one, StringComparison.Ordinal)),
        "upper" => (_, _) => text.ToUpperInvariant(),
        "lower" => (_, _) => text.ToLowerInvariant(),
        "title" => (_, _) => Title(text),
        "capitalize" => (_, _) => Capitalize(text),
        "replace" => (arguments, run) => Replace(text, arguments, run),
        "find" => (arguments, run) => (long)text.IndexOf(Values.Text(arguments.At(0, "sub"), name, run), StringComparison.Ordinal),
        "rfind" => (arguments, run) => (long)text.LastIndexOf(Values.Text(arguments.At(0, "sub"), name, run), StringComparison.Ordinal),
        "count" => (arguments, run) => (long)(text.Split(Values.Text(arguments.At(0, "sub"), name, run)).Length - 1),
        "join" => (arguments, run) => Join(text, Values.Items(arguments.At(0, "iterable"), run), run),
        "removeprefix" => (arguments, run) => Affixes(arguments, run)[0] is var one && text.StartsWith(one, StringComparison.Ordinal) ? text[one.Length..] : text,
        "removesuffix" => (arguments, run) => Affixes(arguments, run)[0] is var one && text.EndsWith(one, StringComparison.Ordinal) ? text[..^one.Length] : text,
        "isdigit" => (_, _) => text.Length > 0 && text.All(char.IsDigit),
        "isalpha" => (_, _) => text.Length > 0 && text.All(char.IsLetter),
        "isalnum" => (_, _) => text.Length > 0 && text.All(char.IsLetterOrDigit),
        "isspace" => (_, _) => text.Length > 0 && text.All(char.IsWhiteSpace),
        "isupper" => (_, _) => text.Any(char.IsUpper) && !text.Any(char.IsLower),
        "islower" => (_, _) => text.Any(char.IsLower) && !text.Any(char.IsUpper),
        _ => null,
    };

    /// <summary>Texts joined; the items must be texts.</summary>
    public static string Join(string separator, IReadOnlyList<object?> items, TemplateRun run)
    {
        List<string> texts = [.. items.Select(item => Values.Text(item, "join", run))];
        run.Charge(texts.Sum(one => (long)one.Length + separator.Length));
        return string.Join(separator, texts);
    }

    /// <summary>Each word with a capital letter.</summary>
    public static string Title(string text)
    {
        bool inside = false;
        return string.Concat(text.Select(character =>
        {
            char result = inside ? char.ToLowerInvariant(character) : char.ToUpperInvariant(character);
            inside = char.IsLetter(character);
            return result;
        }));
    }

    /// <summary>Each word with a capital letter, as the filter <c>title</c> has it: words end at blanks, hyphens and opening brackets.</summary>
    public static string Headline(string text)
    {
        bool inside = false;
        return string.Concat(text.Select(character =>
        {
            char result = inside ? char.ToLowerInvariant(character) : char.ToUpperInvariant(character);
            inside = !char.IsWhiteSpace(character) && character is not ('-' or '(' or '{' or '[' or '<');
            return result;
        }));
    }

    /// <summary>A capital letter first, small ones after it.</summary>
    public static string Capitalize(string text) => text.Length == 0 ? text : text[..1].ToUpperInvariant() + text[1..].ToLowerInvariant();

    /// <summary>Python's strip, lstrip and rstrip.</summary>
    public static string Strip(string text, string name, object? characters, TemplateRun run)
    {
        char[]? set = characters is null ? null : Values.Text(characters, name, run).ToCharArray();
        return name switch
        {
            "lstrip" => set is null ? text.TrimStart() : set.Length == 0 ? text : text.TrimStart(set),
            "rstrip" => set is null ? text.TrimEnd() : set.Length == 0 ? text : text.TrimEnd(set),
            _ => set is null ? text.Trim() : set.Length == 0 ? text : text.Trim(set),
        };
    }

    private static string[] Affixes(CallArguments arguments, TemplateRun run) => arguments.At(0, "prefix") is IReadOnlyList<object?> list
        ? [.. list.Select(one => Values.Text(one, "startswith", run))]
        : [Values.Text(arguments.At(0, "prefix"), "startswith", run)];

    private static List<object?> Lines(string text, TemplateRun run)
    {
        run.Charge(text.Length);
        string[] lines = text.Replace("\r\n", "\n", StringComparison.Ordinal).Split('\n', '\r');
        return [.. lines.Take(lines[^1].Length == 0 ? lines.Length - 1 : lines.Length)];
    }

    private static List<object?> Split(string text, CallArguments arguments, bool fromRight, TemplateRun run)
    {
        run.Charge(text.Length);
        long most = arguments.At(1, "maxsplit") is long given && given >= 0 ? Math.Min(given, int.MaxValue - 1) : int.MaxValue - 1;
        object? separator = arguments.At(0, "sep");
        if (separator is null)
        {
            string[] words = text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            return words.Length - 1 <= most ? [.. words] : [.. text.TrimStart().Split((char[]?)null, (int)most + 1, StringSplitOptions.RemoveEmptyEntries)];
        }

        string mark = Values.Text(separator, "split", run);
        if (mark.Length == 0)
        {
            run.Fail("split by an empty text");
        }

        if (!fromRight)
        {
            return [.. text.Split(mark, (int)most + 1)];
        }

        string[] parts = text.Split(mark);
        int head = (int)Math.Max(1, parts.Length - most);
        return [string.Join(mark, parts.Take(head)), .. parts.Skip(head)];
    }

    private static string Replace(string text, CallArguments arguments, TemplateRun run)
    {
        string old = Values.Text(arguments.At(0, "old"), "replace", run), by = Values.Text(arguments.At(1, "new"), "replace", run);
        long most = arguments.At(2, "count") is long given && given >= 0 ? given : long.MaxValue;
        return Replace(text, old, by, most, run);
    }

    /// <summary>The first occurrences replaced.</summary>
    public static string Replace(string text, string old, string by, long most, TemplateRun run)
    {
        if (old.Length == 0)
        {
            run.Fail("replace of an empty text");
        }

        string[] parts = text.Split(old, (int)Math.Min(most, int.MaxValue - 1) + 1);
        run.Charge(text.Length + ((long)parts.Length * by.Length));
        return string.Join(by, parts);
    }
}
