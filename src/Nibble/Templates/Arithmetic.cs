namespace Nibble.Templates;

/// <summary>Python's operators on numbers, texts and lists.</summary>
internal static class Arithmetic
{
    /// <summary>Applies an operator.</summary>
    public static object? Apply(string name, object? left, object? right, TemplateRun run)
    {
        if (name == "~")
        {
            return Join(PythonText.Of(left, run), PythonText.Of(right, run), run);
        }

        return (name, left, right) switch
        {
            ("+", string a, string b) => Join(a, b, run),
            ("+", IReadOnlyList<object?> a, IReadOnlyList<object?> b) => Join(a, b, run),
            ("*", string text, long times) => Repeat(text, times, run),
            ("*", long times, string text) => Repeat(text, times, run),
            ("%", string text, _) => Format(text, right, run),
            _ when Values.IsNumber(left) && Values.IsNumber(right) => Number(name, left, right, run),
            _ => Mismatch(name, left, right, run),
        };
    }

    private static object? Mismatch(string name, object? left, object? right, TemplateRun run)
    {
        run.Fail($"'{name}' can't be applied to {Values.Describe(left)} and {Values.Describe(right)}");
        return null;
    }

    private static string Join(string left, string right, TemplateRun run)
    {
        run.Charge(left.Length + right.Length);
        return left + right;
    }

    private static List<object?> Join(IReadOnlyList<object?> left, IReadOnlyList<object?> right, TemplateRun run)
    {
        run.Charge(left.Count + right.Count);
        return [.. left, .. right];
    }

    private static string Repeat(string text, long times, TemplateRun run)
    {
        times = text.Length == 0 ? 0 : Math.Clamp(times, 0, int.MaxValue);
        run.Charge(times * text.Length);
        return string.Concat(Enumerable.Repeat(text, (int)times));
    }

    private static string Format(string text, object? right, TemplateRun run)
    {
        Queue<object?> values = new(right is IReadOnlyList<object?> list ? list : [right]);
        System.Text.StringBuilder result = new();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] != '%' || i + 1 == text.Length)
            {
                result.Append(text[i]);
            }
            else if (text[++i] == '%')
            {
                result.Append('%');
            }
            else if (text[i] is 's' or 'd' && values.TryDequeue(out object? value))
            {
                result.Append(PythonText.Of(value, run));
            }
            else
            {
                run.Fail($"'%{text[i]}' is no form that '%' knows here, or has no value");
            }
        }

        run.Charge(result.Length);
        return result.ToString();
    }

    private static object Number(string name, object? left, object? right, TemplateRun run)
    {
        bool real = left is double || right is double || name == "/" || (name == "**" && Values.Real(right) < 0);
        if (name is "/" or "//" or "%" && Values.Real(right) == 0)
        {
            run.Fail("a division by zero");
        }

        try
        {
            return real ? (object)Real(name, Values.Real(left), Values.Real(right)) : Whole(name, Values.Whole(left), Values.Whole(right));
        }
        catch (OverflowException)
        {
            run.Fail("a whole number of more than 64 bits");
            return 0L;
        }
    }

    private static double Real(string name, double left, double right) => name switch
    {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" => left / right,
        "//" => Math.Floor(left / right),
        "%" => left - (Math.Floor(left / right) * right),
        _ => Math.Pow(left, right),
    };

    private static long Whole(string name, long left, long right) => checked(name switch
    {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "//" => FloorDivide(left, right),
        "%" => right == -1 ? 0 : left - (FloorDivide(left, right) * right),
        _ => Power(left, right),
    });

    private static long FloorDivide(long left, long right) => checked((left / right) - ((left % right != 0) && ((left < 0) != (right < 0)) ? 1 : 0));

    private static long Power(long number, long exponent)
    {
        if (number is -1 or 0 or 1)
        {
            // These stay small, however large the exponent is; all others overflow within 64 rounds.
            return exponent == 0 ? 1 : number == -1 && exponent % 2 == 0 ? 1 : number;
        }

        long result = 1;
        for (long i = 0; i < exponent; i++)
        {
            result = checked(result * number);
        }

        return result;
    }
}
