using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>The <c>pre_tokenizer</c> section of <c>tokenizer.json</c>.</summary>
internal sealed class JsonSplitters
{
    private const string Supported = "supported: Sequence, Split, ByteLevel, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit";

    private readonly List<PieceStep> _steps = [];
    private bool _mapped;

    /// <summary>True if pieces become bytes at the end, so that the model works on bytes.</summary>
    public bool Bytes { get; private set; }

    /// <summary>Reads the section; none means that the text is one piece.</summary>
    public static JsonSplitters Read(JsonConfig? section)
    {
        JsonSplitters splitters = new();
        if (section != null)
        {
            splitters.Add(section);
        }

        return splitters;
    }

    /// <summary>Links the steps and the model behind them.</summary>
    public PieceStep Chain(PieceStep model)
    {
        PieceStep next = model;
        foreach (PieceStep step in Enumerable.Reverse(_steps))
        {
            step.Next = next;
            next = step;
        }

        return next;
    }

    private void Add(JsonConfig section)
    {
        string type = section.GetString("type");
        if (type == "Sequence")
        {
            foreach (JsonConfig part in section.Sections("pretokenizers"))
            {
                Add(part);
            }

            return;
        }

        if (Bytes)
        {
            // A step behind ByteLevel sees the bytes' characters (a digit may be part of a letter then), so they must exist.
            _steps.Add(new ByteMapStep());
            Bytes = false;
            _mapped = true;
        }

        if (type == "ByteLevel")
        {
            AddByteLevel(section);
        }
        else
        {
            _steps.Add(Step(section, type));
        }
    }

    private void AddByteLevel(JsonConfig section)
    {
        if (_mapped)
        {
            section.Refuse("type", "two ByteLevel steps would write bytes of bytes", "correct the file");
        }

        if (section.GetBool("add_prefix_space", true))
        {
            _steps.Add(new PrefixSpaceStep());
        }

        if (section.GetBool("use_regex", true))
        {
            _steps.Add(new ScanStep<Gpt2Scanner>(default));
        }

        Bytes = true;
    }

    private static PieceStep Step(JsonConfig section, string type)
    {
        switch (type)
        {
            case "Split":
                return Split(section);
            case "Digits":
                return new RuneSplitStep(RuneSplitStep.IsNumber, section.GetBool("individual_digits", false) ? SplitBehavior.Isolated : SplitBehavior.Contiguous);
            case "Punctuation":
                return new RuneSplitStep(RuneSplitStep.IsPunctuation, Behavior(section, "Isolated"));
            case "Metaspace":
                (char mark, PrependScheme scheme) = Metaspace(section);
                return new MetaspaceStep(mark, scheme, section.GetBool("split", true));
            case "Whitespace":
                return new WordsStep();
            case "WhitespaceSplit":
                return new RuneSplitStep(System.Text.Rune.IsWhiteSpace, SplitBehavior.Removed);
            default:
                section.Refuse("type", $"a pre-tokenizer of type {type} is not supported", Supported);
                return null!;
        }
    }

    /// <summary>Mark and scheme, in today's form and in the older one with <c>add_prefix_space</c>.</summary>
    public static (char Mark, PrependScheme Scheme) Metaspace(JsonConfig section)
    {
        string mark = section.GetString("replacement", BpeRules.MarkText);
        if (mark.Length != 1)
        {
            section.Refuse("replacement", "expected one character", "correct the file");
        }

        string scheme = section.GetString("prepend_scheme", section.GetBool("add_prefix_space", true) ? "always" : "never");
        switch (scheme)
        {
            case "always":
                return (mark[0], PrependScheme.Always);
            case "first":
                return (mark[0], PrependScheme.First);
            case "never":
                return (mark[0], PrependScheme.Never);
            default:
                section.Refuse("prepend_scheme", "expected always, first or never", "correct the file");
                return default;
        }
    }

    private static PieceStep Split(JsonConfig section)
    {
        SplitBehavior behavior = Behavior(section, null);
        bool invert = section.GetBool("invert", false);
        (string pattern, bool isRegex) = Pattern(section);
        if (!isRegex)
        {
            return new TextSplitStep(pattern, behavior, invert);
        }

        // The known patterns match every character, so that matches are all there is.
        bool onlyMatches = (behavior == SplitBehavior.Isolated && !invert) || (behavior == SplitBehavior.Removed && invert);
        return (onlyMatches ? KnownPatterns.Find(pattern) : null)
            ?? new RegexSplitStep(new CodePointRegex(pattern, section.Source), behavior, invert);
    }

    /// <summary>A <c>pattern</c>: <c>{"String": …}</c> or <c>{"Regex": …}</c>.</summary>
    public static (string Pattern, bool IsRegex) Pattern(JsonConfig section)
    {
        JsonConfig? pattern = section.Section("pattern");
        bool isRegex = pattern?.Has("Regex") ?? false;
        if (pattern == null || (!isRegex && !pattern.Has("String")))
        {
            section.Refuse("pattern", "expected {\"Regex\": …} or {\"String\": …}", "correct the file");
        }

        return (pattern.GetString(isRegex ? "Regex" : "String"), isRegex);
    }

    private static SplitBehavior Behavior(JsonConfig section, string? fallback)
    {
        string name = fallback == null ? section.GetString("behavior") : section.GetString("behavior", fallback);
        if (!Enum.TryParse(name, out SplitBehavior behavior) || !Enum.IsDefined(behavior) || char.IsDigit(name[0]))
        {
            section.Refuse("behavior", $"expected one of {string.Join(", ", Enum.GetNames<SplitBehavior>())}", "correct the file");
        }

        return behavior;
    }
}
