using System.Text;
using Nibble.Formats;

namespace Nibble.Tokenization;

/// <summary>The <c>decoder</c> section of <c>tokenizer.json</c>.</summary>
internal static class JsonDecoder
{
    private const string Supported = "supported: Sequence, ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip";

    /// <summary>Reads the section; without one, tokens are joined by spaces, as the reference implementation does.</summary>
    public static DecoderRules Read(JsonConfig? section)
    {
        DecoderRules rules = new() { Separator = section == null ? [(byte)' '] : [] };
        if (section != null)
        {
            bool fused = false;
            Add(section, rules, ref fused);
        }

        return rules;
    }

    private static void Add(JsonConfig section, DecoderRules rules, ref bool fused)
    {
        string type = section.GetString("type");
        switch (type)
        {
            case "Sequence":
                foreach (JsonConfig part in section.Sections("decoders"))
                {
                    Add(part, rules, ref fused);
                }

                break;
            case "ByteLevel":
                rules.Bytes = true;
                break;
            case "ByteFallback":
                rules.ByteFallback = true;
                break;
            case "Fuse":
                fused = true;
                break;
            case "Metaspace":
                (char mark, PrependScheme scheme) = JsonSplitters.Metaspace(section);
                rules.FirstDropsSpaces = scheme != PrependScheme.Never;
                rules.AddText(text => text.Replace(mark, ' '));
                break;
            case "Replace":
                Replace(section, rules, fused);
                break;
            case "Strip":
                Strip(section, rules, fused);
                break;
            default:
                section.Refuse("type", $"a decoder of type {type} is not supported", Supported);
                break;
        }
    }

    private static void Replace(JsonConfig section, DecoderRules rules, bool fused)
    {
        (string pattern, bool isRegex) = JsonSplitters.Pattern(section);
        string content = section.GetString("content");
        if (pattern.Length == 0 || (fused && (isRegex || pattern.Length > 1)))
        {
            section.Refuse("pattern", "a decoder can only replace within one token", "correct the file");
        }

        Normalizer replace = isRegex ? new PatternNormalizer(new CodePointRegex(pattern, section.Source), content) : new ReplaceNormalizer(pattern, content);
        rules.AddText(replace.Apply);
    }

    private static void Strip(JsonConfig section, DecoderRules rules, bool fused)
    {
        string content = section.GetString("content", " ");
        int start = section.GetInt("start", 0, min: 0, max: 1000);
        int stop = section.GetInt("stop", 0, min: 0, max: 1000);
        if (content.Length == 0 || (fused && stop > 0))
        {
            section.Refuse(content.Length == 0 ? "content" : "stop", "a decoder cannot drop this from the end of a text that still grows", "correct the file");
        }

        if (fused)
        {
            rules.StripContent = Encoding.UTF8.GetBytes(content);
            rules.StripStart = start;
        }
        else
        {
            rules.AddText(text => StripToken(text, content, start, stop));
        }
    }

    private static string StripToken(string text, string content, int start, int stop)
    {
        for (; start > 0 && text.StartsWith(content, StringComparison.Ordinal); start--)
        {
            text = text[content.Length..];
        }

        for (; stop > 0 && text.EndsWith(content, StringComparison.Ordinal); stop--)
        {
            text = text[..^content.Length];
        }

        return text;
    }
}
