using Nibble.IO;

namespace Nibble.Evaluation.Protocols;

/// <summary>How rows of a text are joined before it is tokenized.</summary>
public enum TextJoin
{
    /// <summary>The text as it stands.</summary>
    Raw,

    /// <summary>Rows joined by two newlines, as transformers' documentation joins data sets.</summary>
    Hf,
}

/// <summary>
/// The exact definition of a perplexity: how a text becomes sequences, which windows of a sequence are run, and which tokens of a
/// window are scored. Its id is stored with every number; numbers with different ids do not compare.
/// </summary>
public abstract record Protocol
{
    /// <summary>Names that <see cref="Create"/> takes, in the order of the help page.</summary>
    public static IReadOnlyList<string> Names { get; } = ["window", "blocks", "half", "lines", "examples"];

    /// <summary>The name on the command line.</summary>
    public abstract string Name { get; }

    /// <summary>Most tokens in one forward pass.</summary>
    public abstract int Window { get; }

    /// <summary>How a text is divided into sequences that are tokenized on their own.</summary>
    public virtual TextUnit Unit => TextUnit.Whole;

    /// <summary>True if the first token of each window is replaced by BOS, where the tokenizer adds one.</summary>
    public virtual bool RestartsWithBos => false;

    /// <summary>The id without the way of joining.</summary>
    protected abstract string Parameters { get; }

    /// <summary>The windows of one sequence, in order; every scored token once.</summary>
    public abstract IEnumerable<ScoringWindow> Windows(int length);

    /// <summary>What is stored with a number: name, parameters, and the way of joining where rows are joined.</summary>
    public string Id(TextJoin join) => Unit == TextUnit.Whole ? $"{Parameters}-{(join == TextJoin.Hf ? "hf" : "raw")}" : Parameters;

    /// <summary>A protocol by name; sizes that were not chosen get the protocol's defaults, cut to the model's context.</summary>
    public static Protocol Create(string name, int? window, int? stride, int context)
    {
        int size = window ?? Math.Min(context, name switch { "blocks" => 2048, "half" => 512, _ => 1024 });
        if (stride is not null && name is not ("window" or "lines"))
        {
            Throw.Usage($"protocol {name} has no stride", "its windows do not overlap", "leave --stride out, or choose --protocol window");
        }

        Require(size, stride, context);
        return name switch
        {
            "window" => new WindowProtocol(size, stride ?? Math.Max(1, size / 2)),
            "blocks" => new BlocksProtocol(size),
            "half" => new HalfProtocol(size),
            "lines" => new LinesProtocol(size, stride ?? Math.Max(1, size / 2)),
            "examples" => new ExamplesProtocol(size),
            _ => throw new NibbleException(ErrorKind.Usage, $"unknown protocol '{name}'", $"known are {string.Join(", ", Names)}", "see docs/protocols.md"),
        };
    }

    private static void Require(int window, int? stride, int context)
    {
        if (window < 2)
        {
            Throw.Usage($"a window of {window} tokens scores nothing", "the first token of a window is never scored", "use at least 2, usually the model's context");
        }

        if (window > context)
        {
            Throw.Usage($"a window of {window:N0} tokens is longer than the model's context of {context:N0}", remedy: $"use --window {context} or less");
        }

        if (stride is < 1 || stride > window)
        {
            Throw.Usage($"a stride of {stride} does not fit a window of {window}", "a larger one would leave tokens out", $"use 1 to {window}");
        }
    }
}

/// <summary>What a protocol tokenizes on its own.</summary>
public enum TextUnit
{
    /// <summary>All rows joined.</summary>
    Whole,

    /// <summary>Each line that is not blank.</summary>
    Line,

    /// <summary>Each document: a row of a .jsonl file, a file of a folder.</summary>
    Document,
}
