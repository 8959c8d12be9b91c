namespace Nibble.Tuning;

/// <summary>What A and B are before the first step.</summary>
public enum LoraInit
{
    /// <summary>A small and random, B zero: the layer starts as the base.</summary>
    Kaiming,

    /// <summary>
    /// The largest singular parts of the base's matrix (PiSSA, arXiv 2404.02948). They are subtracted beside the base, which stays as it
    /// is, so the layer starts as the base; the saved adapter is plain LoRA of twice the rank.
    /// </summary>
    Pissa,

    /// <summary>The largest singular parts of what quantization took from the matrix (LoftQ, arXiv 2310.08659, one iteration): the layer starts nearer to the dense base.</summary>
    Loftq,
}

/// <summary>What a low-rank adapter is: which layers, which rank, which factor. The names are PEFT's.</summary>
public sealed record LoraSettings
{
    /// <summary>Inner width of the adapters.</summary>
    public int Rank { get; init; } = 8;

    /// <summary>Numerator of the factor: alpha / rank, or alpha / √rank with <see cref="UseRsLora"/>.</summary>
    public double Alpha { get; init; } = 16;

    /// <summary>Dropout on the adapter's input.</summary>
    public double Dropout { get; init; }

    /// <summary>Module names, matched as whole paths or path ends; or one regular expression if <see cref="TargetsAreRegex"/>. Empty: the family's default.</summary>
    public IReadOnlyList<string> TargetModules { get; init; } = [];

    /// <summary>The only entry of <see cref="TargetModules"/> is a regular expression over whole paths.</summary>
    public bool TargetsAreRegex { get; init; }

    /// <summary>Modules that are left alone although they match.</summary>
    public IReadOnlyList<string> ExcludeModules { get; init; } = [];

    /// <summary>The only entry of <see cref="ExcludeModules"/> is a regular expression.</summary>
    public bool ExcludesAreRegex { get; init; }

    /// <summary>Numbers of the blocks that get adapters; empty for all.</summary>
    public IReadOnlyList<int> Layers { get; init; } = [];

    /// <summary>Other ranks for modules whose path ends with a match of the key.</summary>
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>Other alphas for modules whose path ends with a match of the key.</summary>
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    /// <summary>rsLoRA (arXiv 2312.03732): the factor falls with √rank.</summary>
    public bool UseRsLora { get; init; }

    /// <summary>DoRA (arXiv 2402.09353): directions by A and B, a trained magnitude for each output.</summary>
    public bool UseDora { get; init; }

    /// <summary>What A and B start as.</summary>
    public LoraInit Init { get; init; } = LoraInit.Kaiming;

    /// <summary>LoRA+ (arXiv 2402.12354): the learning rate of B as a multiple of that of A.</summary>
    public double RateRatio { get; init; } = 1;

    /// <summary>Where the base came from, as the adapter's config names it.</summary>
    public string? BaseModel { get; init; }

    /// <summary>The factor of an adapter.</summary>
    public float Scale(int rank, double alpha) => (float)(alpha / (UseRsLora ? Math.Sqrt(rank) : rank));
}
