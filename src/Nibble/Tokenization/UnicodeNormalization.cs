using System.Globalization;
using System.IO.Compression;
using System.Text;

namespace Nibble.Tokenization;

/// <summary>
/// NFC, NFD, NFKC and NFKD (Unicode Standard Annex 15). The runtime's own <c>Normalize</c> does nothing here, because Nibble
/// runs without culture data.
/// </summary>
internal sealed class UnicodeNormalization
{
    private const int SyllableBase = 0xAC00;
    private const int LeadBase = 0x1100;
    private const int VowelBase = 0x1161;
    private const int TailBase = 0x11A7;
    private const int Leads = 19;
    private const int Vowels = 21;
    private const int Tails = 28;
    private const int Syllables = Leads * Vowels * Tails;

    private static readonly Lazy<UnicodeNormalization> Instance = new(() => new UnicodeNormalization());

    private readonly Dictionary<int, int> _classes = [];
    private readonly Dictionary<int, int[]> _canonical = [];
    private readonly Dictionary<int, int[]> _compatible = [];
    private readonly Dictionary<(int First, int Second), int> _compositions = [];

    private UnicodeNormalization()
    {
        using ZLibStream stream = new(new MemoryStream(Convert.FromBase64String(UnicodeData.Packed)), CompressionMode.Decompress);
        using StreamReader reader = new(stream);
        while (reader.ReadLine() is string line)
        {
            int[] codes = line[2..].Split(' ').Select(code => int.Parse(code, NumberStyles.HexNumber, CultureInfo.InvariantCulture)).ToArray();
            _ = line[0] switch
            {
                'c' => _classes.TryAdd(codes[0], codes[1]),
                'd' => _canonical.TryAdd(codes[0], codes[1..]),
                'k' => _compatible.TryAdd(codes[0], codes[1..]),
                _ => _compositions.TryAdd((codes[0], codes[1]), codes[2]),
            };
        }
    }

    /// <summary>Normalizes a text; one that cannot change is returned as it is.</summary>
    public static string Normalize(string text, NormalizationForm form)
    {
        // Below U+0300 nothing combines, so NFC changes nothing; the other forms leave ASCII alone.
        bool unchanged = form == NormalizationForm.FormC ? text.AsSpan().IndexOfAnyExceptInRange('\0', '\u02FF') < 0 : Ascii.IsValid(text);
        return unchanged ? text : Instance.Value.Run(text, form);
    }

    private string Run(string text, NormalizationForm form)
    {
        bool compatible = form is NormalizationForm.FormKC or NormalizationForm.FormKD;
        List<int> codes = new(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            Decompose(rune.Value, compatible, codes);
        }

        Order(codes);
        if (form is NormalizationForm.FormC or NormalizationForm.FormKC)
        {
            Compose(codes);
        }

        StringBuilder result = new(text.Length);
        foreach (int code in codes)
        {
            _ = code <= char.MaxValue ? result.Append((char)code) : result.Append(new Rune(code));
        }

        return result.ToString();
    }

    private void Decompose(int code, bool compatible, List<int> codes)
    {
        if (code < 0x80)
        {
            codes.Add(code);
        }
        else if (code - SyllableBase is >= 0 and < Syllables)
        {
            int syllable = code - SyllableBase;
            codes.Add(LeadBase + (syllable / (Vowels * Tails)));
            codes.Add(VowelBase + (syllable % (Vowels * Tails) / Tails));
            if (syllable % Tails != 0)
            {
                codes.Add(TailBase + (syllable % Tails));
            }
        }
        else if ((compatible && _compatible.TryGetValue(code, out int[]? parts)) || _canonical.TryGetValue(code, out parts))
        {
            codes.AddRange(parts);
        }
        else
        {
            codes.Add(code);
        }
    }

    private int Class(int code) => code < 0x300 ? 0 : _classes.GetValueOrDefault(code);

    /// <summary>Sorts runs of marks by their class, keeping the order within a class.</summary>
    private void Order(List<int> codes)
    {
        for (int start = 0; start < codes.Count; start++)
        {
            int end = start;
            while (end < codes.Count && Class(codes[end]) != 0)
            {
                end++;
            }

            if (end - start > 1)
            {
                int[] sorted = codes.GetRange(start, end - start).OrderBy(Class).ToArray();
                for (int i = 0; i < sorted.Length; i++)
                {
                    codes[start + i] = sorted[i];
                }
            }

            start = Math.Max(start, end);
        }
    }

    private void Compose(List<int> codes)
    {
        int starter = -1;
        int lastClass = -1;
        int count = 0;
        for (int i = 0; i < codes.Count; i++)
        {
            int code = codes[i];
            int own = Class(code);
            bool blocked = lastClass >= own && lastClass != -1;
            if (starter >= 0 && !blocked && Pair(codes[starter], code) is int composed)
            {
                codes[starter] = composed;
                continue;
            }

            if (own == 0)
            {
                starter = count;
                lastClass = -1;
            }
            else
            {
                lastClass = own;
            }

            codes[count++] = code;
        }

        codes.RemoveRange(count, codes.Count - count);
    }

    private int? Pair(int first, int second)
    {
        if (first - LeadBase is >= 0 and < Leads && second - VowelBase is >= 0 and < Vowels)
        {
            return SyllableBase + ((((first - LeadBase) * Vowels) + second - VowelBase) * Tails);
        }

        if (first - SyllableBase is >= 0 and < Syllables && (first - SyllableBase) % Tails == 0 && second - TailBase is > 0 and < Tails)
        {
            return first + second - TailBase;
        }

        return _compositions.TryGetValue((first, second), out int composed) ? composed : null;
    }
}
