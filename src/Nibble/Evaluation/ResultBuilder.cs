using Nibble.Evaluation.Classification;

namespace Nibble.Evaluation;

/// <summary>Collects the numbers of a measurement.</summary>
public sealed class ResultBuilder
{
    private readonly Dictionary<string, double> _metrics = [];
    private readonly Dictionary<string, double[]> _intervals = [];

    /// <summary>The numbers so far.</summary>
    public IReadOnlyDictionary<string, double> Metrics => _metrics;

    /// <summary>The intervals so far.</summary>
    public IReadOnlyDictionary<string, double[]> Intervals => _intervals;

    /// <summary>Id of the perplexity protocol.</summary>
    public string? Protocol { get; set; }

    /// <summary>Fingerprint of the text.</summary>
    public string? DataSha256 { get; set; }

    /// <summary>Fingerprint of the tokenizer.</summary>
    public string? TokenizerSha256 { get; set; }

    /// <summary>Sequences in the largest forward pass.</summary>
    public int Batch { get; set; } = 1;

    /// <summary>How the energy was found.</summary>
    public string? EnergySource { get; set; }

    /// <summary>How exactly, in a sentence.</summary>
    public string? EnergyDescription { get; set; }

    /// <summary>The country's carbon intensity and where it comes from.</summary>
    public string? CarbonSource { get; set; }

    /// <summary>Scores of every class.</summary>
    public IReadOnlyList<ClassScore>? Classes { get; set; }

    /// <summary>Confusion matrix, see <see cref="ConfusionMatrix.Counts"/>.</summary>
    public IReadOnlyList<IReadOnlyList<int>>? Confusion { get; set; }

    /// <summary>Adds a number; one that is not finite was not measured.</summary>
    public void Add(string metric, double? value)
    {
        if (value is { } number && double.IsFinite(number))
        {
            _metrics[metric] = number;
        }
    }

    /// <summary>Adds a number with its 95 % interval.</summary>
    public void Add(string metric, double value, double low, double high)
    {
        Add(metric, value);
        if (double.IsFinite(low) && double.IsFinite(high))
        {
            _intervals[metric] = [low, high];
        }
    }
}
