using System.Globalization;
using System.Text;

namespace Nibble.Templates;

/// <summary>Values as text: as Python's <c>str</c> and <c>repr</c>, and as JSON in the form of Python's <c>json.dumps</c>.</summary>
internal static class PythonText
{
    /// <summary>As output writes a value.</summary>
    public static string Of(object? value, TemplateRun run)
    {
        if (value is string text)
        {
            return text;
        }

        StringBuilder written = new();
        if (value is not Undefined)
        {
            Repr(value, written, run);
            run.Charge(written.Length);
        }

        return written.ToString();
    }

    /// <summary>As JSON.</summary>
    /// <param name="value">The value.</param>
    /// <param name="indent">Blanks of one level; null for one line.</param>
    /// <param name="sortKeys">Orders the keys of dictionaries.</param>
    /// <param name="ascii">Escapes everything else.</param>
    /// <param name="separators">What stands between items, and after keys; null for Python's own.</param>
    /// <param name="run">The rendering.</param>
    public static string Json(object? value, int? indent, bool sortKeys, bool ascii, (string Item, string Key)? separators, TemplateRun run)
    {
        StringBuilder text = new();
        (string item, string key) = separators ?? (indent is null ? ", " : ",", ": ");
        new JsonWriter(text, indent, sortKeys, ascii, item, key, run).Write(value, 0);
        run.Charge(text.Length);
        return text.ToString();
    }

    /// <summary>A real number: the shortest digits that give it back, always with a point or exponent.</summary>
    public static string Real(double value)
    {
        if (!double.IsFinite(value))
        {
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        }

        string text = value.ToString("R", CultureInfo.InvariantCulture);
        if (text.Contains('E', StringComparison.Ordinal))
        {
            // Python writes exponents from 1e16 on, .NET from another size on.
            if (Math.Abs(value) is < 1e15 or >= 1e16)
            {
                return text.Replace('E', 'e');
            }

            text = decimal.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture).ToString(CultureInfo.InvariantCulture);
        }
        else if (Math.Abs(value) >= 1e16)
        {
            string digits = text.TrimStart('-');
            string fraction = digits[1..].TrimEnd('0');
            return $"{(value < 0 ? "-" : string.Empty)}{digits[0]}{(fraction.Length > 0 ? "." : string.Empty)}{fraction}e+{digits.Length - 1}";
        }

        return text.Contains('.', StringComparison.Ordinal) ? text : text + ".0";
    }

    /// <summary>As Python's repr. What a value holds is written as often as it is held: each part is a step, or a few loops would make a text without end.</summary>
    private static void Repr(object? value, StringBuilder text, TemplateRun run)
    {
        run.Step();
        switch (value)
        {
            case IReadOnlyDictionary<string, object?> map:
                Parts('{', map, "}", pair =>
                {
                    text.Append(Quote(pair.Key)).Append(": ");
                    Repr(pair.Value, text, run);
                });
                break;
            case TemplateTuple tuple:
                Parts('(', tuple, tuple.Count == 1 ? ",)" : ")", part => Repr(part, text, run));
                break;
            case IReadOnlyList<object?> list:
                Parts('[', list, "]", part => Repr(part, text, run));
                break;
            default:
                text.Append(Single(value));
                break;
        }

        void Parts<T>(char open, IEnumerable<T> parts, string close, Action<T> write)
        {
            text.Append(open);
            foreach ((int i, T part) in parts.Index())
            {
                text.Append(i == 0 ? string.Empty : ", ");
                write(part);
            }

            text.Append(close);
        }
    }

    private static string Single(object? value) => value switch
    {
        null => "None",
        bool flag => flag ? "True" : "False",
        long number => number.ToString(CultureInfo.InvariantCulture),
        double number => Real(number),
        string text => Quote(text),
        Undefined => "Undefined",
        TemplateNamespace => "<Namespace>",
        _ => "<function>",
    };

    private static string Quote(string text)
    {
        char quote = text.Contains('\'', StringComparison.Ordinal) && !text.Contains('"', StringComparison.Ordinal) ? '"' : '\'';
        StringBuilder quoted = new(text.Length + 2);
        quoted.Append(quote);
        foreach (char character in text)
        {
            _ = character switch
            {
                '\n' => quoted.Append("\\n"),
                '\t' => quoted.Append("\\t"),
                '\r' => quoted.Append("\\r"),
                '\\' => quoted.Append("\\\\"),
                _ when character == quote => quoted.Append('\\').Append(quote),
                < ' ' or '\x7f' => quoted.Append(CultureInfo.InvariantCulture, $"\\x{(int)character:x2}"),
                _ => quoted.Append(character),
            };
        }

        return quoted.Append(quote).ToString();
    }

    private sealed class JsonWriter(StringBuilder text, int? indent, bool sortKeys, bool ascii, string item, string key, TemplateRun run)
    {
        public void Write(object? value, int depth)
        {
            run.Step();
            switch (value)
            {
                case null:
                    text.Append("null");
                    break;
                case bool flag:
                    text.Append(flag ? "true" : "false");
                    break;
                case string words:
                    Escape(words);
                    break;
                case long or double:
                    text.Append(value is double real && !double.IsFinite(real) ? double.IsNaN(real) ? "NaN" : real > 0 ? "Infinity" : "-Infinity" : Single(value));
                    break;
                case IReadOnlyDictionary<string, object?> map:
                    IEnumerable<KeyValuePair<string, object?>> pairs = sortKeys ? map.OrderBy(pair => pair.Key, StringComparer.Ordinal) : map;
                    List('{', '}', depth, pairs, pair =>
                    {
                        Escape(pair.Key);
                        text.Append(key);
                        Write(pair.Value, depth + 1);
                    });
                    break;
                case IReadOnlyList<object?> list:
                    List('[', ']', depth, list, part => Write(part, depth + 1));
                    break;
                default:
                    run.Fail($"{Values.Describe(value)} can't be written as JSON");
                    break;
            }
        }

        private void List<T>(char open, char close, int depth, IEnumerable<T> parts, Action<T> write)
        {
            text.Append(open);
            bool first = true;
            foreach (T part in parts)
            {
                text.Append(first ? string.Empty : item);
                NewLine(depth + 1);
                write(part);
                first = false;
            }

            if (!first)
            {
                NewLine(depth);
            }

            text.Append(close);
        }

        private void NewLine(int depth)
        {
            if (indent is { } blanks)
            {
                run.Charge((long)blanks * depth);
                text.Append('\n').Append(' ', blanks * depth);
            }
        }

        private void Escape(string words)
        {
            text.Append('"');
            foreach (char character in words)
            {
                _ = character switch
                {
                    '"' => text.Append("\\\""),
                    '\\' => text.Append("\\\\"),
                    '\n' => text.Append("\\n"),
                    '\r' => text.Append("\\r"),
                    '\t' => text.Append("\\t"),
                    '\b' => text.Append("\\b"),
                    '\f' => text.Append("\\f"),
                    _ when character < ' ' || (ascii && character > '~') => text.Append(CultureInfo.InvariantCulture, $"\\u{(int)character:x4}"),
                    _ => text.Append(character),
                };
            }

            text.Append('"');
        }
    }
}
