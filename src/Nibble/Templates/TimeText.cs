using System.Globalization;
using System.Text;

namespace Nibble.Templates;

/// <summary>Times as text, by C's <c>strftime</c> in its own language.</summary>
internal static class TimeText
{
    /// <summary>Formats a time.</summary>
    public static string Format(DateTimeOffset time, string format, TemplateRun run)
    {
        StringBuilder text = new();
        for (int i = 0; i < format.Length; i++)
        {
            if (format[i] != '%' || i + 1 == format.Length)
            {
                text.Append(format[i]);
                continue;
            }

            bool bare = format[++i] == '-' && i + 1 < format.Length;
            string part = Part(time, bare ? format[++i] : format[i], run);
            text.Append(bare ? part.TrimStart('0') is { Length: > 0 } rest ? rest : "0" : part);
        }

        return text.ToString();
    }

    private static string Part(DateTimeOffset time, char form, TemplateRun run)
    {
        string? pattern = form switch
        {
            'Y' => "yyyy",
            'y' => "yy",
            'm' => "MM",
            'd' => "dd",
            'H' => "HH",
            'I' => "hh",
            'M' => "mm",
            'S' => "ss",
            'b' or 'h' => "MMM",
            'B' => "MMMM",
            'a' => "ddd",
            'A' => "dddd",
            'p' => "tt",
            'F' => "yyyy-MM-dd",
            'T' => "HH:mm:ss",
            'f' => "ffffff",
            _ => null,
        };
        switch (form)
        {
            case '%':
                return "%";
            case 'j':
                return time.DayOfYear.ToString("D3", CultureInfo.InvariantCulture);
            case 'e':
                return time.Day.ToString(CultureInfo.InvariantCulture).PadLeft(2);
            case 'z':
                return time.ToString("zzz", CultureInfo.InvariantCulture).Replace(":", string.Empty, StringComparison.Ordinal);
        }

        if (pattern is null)
        {
            run.Fail($"strftime_now knows no '%{form}'");
        }

        return time.ToString(pattern, CultureInfo.InvariantCulture);
    }
}
