using System.Text;
using Nibble.Formats;

namespace Nibble.Tokenization;

/// <summary>The <c>normalizer</c> section of <c>tokenizer.json</c>.</summary>
internal static class JsonNormalizer
{
    private const string Supported = "supported: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, Replace, Prepend";

    /// <summary>Reads the section; none means that the text stays as it is.</summary>
    public static Normalizer? Read(JsonConfig? section)
    {
        if (section == null)
        {
            return null;
        }

        string type = section.GetString("type");
        switch (type)
        {
            case "Sequence":
                Normalizer[] steps = section.Sections("normalizers").Select(part => Read(part)!).ToArray();
                return steps.Length == 0 ? null : steps.Length == 1 ? steps[0] : new SequenceNormalizer(steps);
            case "NFC":
                return new UnicodeNormalizer(NormalizationForm.FormC);
            case "NFD":
                return new UnicodeNormalizer(NormalizationForm.FormD);
            case "NFKC":
                return new UnicodeNormalizer(NormalizationForm.FormKC);
            case "NFKD":
                return new UnicodeNormalizer(NormalizationForm.FormKD);
            case "Lowercase":
                return new LowercaseNormalizer();
            case "Strip":
                return new StripNormalizer(section.GetBool("strip_left", true), section.GetBool("strip_right", true));
            case "Prepend":
                return new PrependNormalizer(section.GetString("prepend"));
            case "Replace":
                return Replace(section);
            default:
                section.Refuse("type", $"a normalizer of type {type} is not supported", Supported);
                return null;
        }
    }

    private static Normalizer Replace(JsonConfig section)
    {
        (string pattern, bool isRegex) = JsonSplitters.Pattern(section);
        string content = section.GetString("content");
        if (pattern.Length == 0)
        {
            section.Refuse("pattern", "nothing cannot be replaced", "correct the file");
        }

        return isRegex ? new PatternNormalizer(new CodePointRegex(pattern, section.Source), content) : new ReplaceNormalizer(pattern, content);
    }
}
