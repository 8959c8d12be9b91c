using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Calibration;

namespace Nibble.Runs.Recommending;

/// <summary>What counts most among the ways to run a model that fit.</summary>
public enum Preference
{
    /// <summary>The least perplexity; of those that can't be told apart the smallest.</summary>
    Quality,

    /// <summary>The least memory that costs at most <see cref="RecommendRequest.MaxLoss"/>.</summary>
    Size,

    /// <summary>The most tokens a second that cost at most <see cref="RecommendRequest.MaxLoss"/>.</summary>
    Speed,
}

/// <summary>What a model is wanted for, and what there is for it.</summary>
/// <param name="Model">The model's folder.</param>
/// <param name="MemoryBytes">Memory that running may take.</param>
public sealed record RecommendRequest(string Model, long MemoryBytes)
{
    /// <summary>Tokens of a conversation, prompt and answer; null for 4,096, or the model's context if that is shorter.</summary>
    public int? Context { get; init; }

    /// <summary>Texts at once.</summary>
    public int Batch { get; init; } = 1;

    /// <summary>Numbers in which keys and values are kept.</summary>
    public KvCacheType KvCache { get; init; } = KvCacheType.F32;

    /// <summary>Text that quality is measured on: a file, a folder or a name.</summary>
    public string Data { get; init; } = "demo";

    /// <summary>Most tokens of it.</summary>
    public int Limit { get; init; } = 8192;

    /// <summary>Text and samples of methods that look at the inputs of layers.</summary>
    public CalibrationRequest Calibration { get; init; } = new("demo") { Samples = 32 };

    /// <summary>Most seconds that measuring may take, by estimate.</summary>
    public double Seconds { get; init; } = 1800;

    /// <summary>What counts.</summary>
    public Preference Prefer { get; init; }

    /// <summary>Perplexity that smaller and faster forms may cost, as a factor of the model's own: the upper end of the paired interval has to be below it.</summary>
    public double MaxLoss { get; init; } = 1.02;

    /// <summary>Where the model is measured and will run.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>Threads; null for all.</summary>
    public int? Threads { get; init; }

    /// <summary>Numbers in which products read activations.</summary>
    public string Activations { get; init; } = "f32";

    /// <summary>Refuses values that make no sense.</summary>
    internal void Require()
    {
        Require(MemoryBytes > 0, "memory", MemoryBytes, "above 0");
        Require(Context is null or > 0, "context", Context, "at least 1");
        Require(Batch > 0, "batch", Batch, "at least 1");
        Require(Limit >= 512, "limit", Limit, "at least 512 tokens: less tells forms apart by chance");
        Require(Seconds > 0, "time", Seconds, "above 0");
        Require(MaxLoss is >= 1 and <= 10, "max-loss", MaxLoss, "a factor from 1 to 10, for example 1.02");
    }

    private static void Require(bool ok, string option, object? value, string range)
    {
        if (!ok)
        {
            Throw.Usage(FormattableString.Invariant($"--{option} {value} makes no sense"), $"it must be {range}");
        }
    }
}
