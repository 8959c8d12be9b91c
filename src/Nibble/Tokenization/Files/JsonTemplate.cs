using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>The <c>post_processor</c> section of <c>tokenizer.json</c>: what is put around a text.</summary>
internal static class JsonTemplate
{
    private const string Supported = "supported: TemplateProcessing, ByteLevel, Sequence";

    /// <summary>Reads the section into the ids before and after a text.</summary>
    public static (int[] Prefix, int[] Suffix) Read(JsonConfig? section, Limits limits)
    {
        if (section == null)
        {
            return ([], []);
        }

        string type = section.GetString("type");
        switch (type)
        {
            case "ByteLevel":
                return ([], []);
            case "TemplateProcessing":
                return Template(section, limits);
            case "Sequence":
                (int[] Prefix, int[] Suffix) all = ([], []);
                foreach (JsonConfig part in section.Sections("processors"))
                {
                    (int[] prefix, int[] suffix) = Read(part, limits);
                    all = ([.. prefix, .. all.Prefix], [.. all.Suffix, .. suffix]);
                }

                return all;
            default:
                section.Refuse("type", $"a post-processor of type {type} is not supported", Supported);
                return default;
        }
    }

    private static (int[] Prefix, int[] Suffix) Template(JsonConfig section, Limits limits)
    {
        List<int> prefix = [];
        List<int> suffix = [];
        int texts = 0;
        foreach (JsonConfig item in section.Sections("single"))
        {
            if (item.Section("SpecialToken") is JsonConfig special)
            {
                (texts == 0 ? prefix : suffix).AddRange(Ids(section, special.GetString("id"), limits));
            }
            else if (item.Section("Sequence") is JsonConfig sequence && sequence.GetString("id") == "A")
            {
                texts++;
            }
            else
            {
                section.Refuse("single", "expected items with SpecialToken or with Sequence A", "correct the file");
            }
        }

        if (texts != 1)
        {
            section.Refuse("single", $"the text stands in it {texts} times", "correct the file: it must stand there once");
        }

        return ([.. prefix], [.. suffix]);
    }

    private static IReadOnlyList<int> Ids(JsonConfig section, string name, Limits limits)
    {
        JsonConfig? token = section.Section("special_tokens")?.SectionNamed(name);
        IReadOnlyList<int> ids = token?.GetInts("ids", 0, limits.VocabularyEntries - 1) ?? [];
        if (ids.Count == 0)
        {
            section.Refuse("special_tokens", $"it gives no ids for '{Vocabulary.Shorten(name)}'", "correct the file");
        }

        return ids;
    }
}
