using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Nibble.Evaluation.Classification;

namespace Nibble.Evaluation;

/// <summary>Where and with what a measurement was made.</summary>
/// <param name="Cpu">Name of the processor.</param>
/// <param name="Cores">Logical processors that the process may use.</param>
/// <param name="Gpu">Name of the GPU, null without one.</param>
/// <param name="Nibble">Version of Nibble.</param>
/// <param name="Commit">The commit that it was built from, where known.</param>
/// <param name="Dotnet">Version of .NET.</param>
/// <param name="Os">Operating system.</param>
public sealed record MeasuredEnvironment(
    string Cpu, int Cores, [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? Gpu, string Nibble, string? Commit, string Dotnet, string Os);

/// <summary>
/// One measured cell: what <c>eval --json</c> prints, and what a study's results.json has for each cell. A metric that was not
/// measured is absent, never zero.
/// </summary>
public sealed record ResultDocument
{
    /// <summary>Names in snake case, absent values left out, indented; for Nibble's own documents, without reflection.</summary>
    public static JsonSerializerOptions JsonOptions { get; } = IO.DocumentJson.Known(new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });

    /// <summary>Version of the form.</summary>
    public int Schema { get; init; } = 1;

    /// <summary>In a study: hash of everything that the numbers depend on.</summary>
    public string? Key { get; init; }

    /// <summary>In a study: how tables call the method.</summary>
    public string? Label { get; init; }

    /// <summary>In a study: true for the one that others are compared with.</summary>
    public bool? Baseline { get; init; }

    /// <summary>In a study: the command that measures the same.</summary>
    public string? Command { get; init; }

    /// <summary>The model's name: its folder.</summary>
    public required string Model { get; init; }

    /// <summary>The adapter that was on it, as it was given; null without one.</summary>
    public string? Adapter { get; init; }

    /// <summary>The base that a tuned model was compared with, as it was given; null where none was.</summary>
    public string? Before { get; init; }

    /// <summary>In a study: the trainings that made the model, in their order; null without any.</summary>
    public IReadOnlyList<TrainingFacts>? Training { get; init; }

    /// <summary>Quantization method; <c>none</c> for a dense model.</summary>
    public required string Method { get; init; }

    /// <summary>Bits of a code, or of a dense weight.</summary>
    public double? Bits { get; init; }

    /// <summary>Settings of the method.</summary>
    public IReadOnlyDictionary<string, object> Settings { get; init; } = new Dictionary<string, object>();

    /// <summary>The first task.</summary>
    public required string Task { get; init; }

    /// <summary>Every task whose metrics are here.</summary>
    public IReadOnlyList<string> Tasks { get; init; } = [];

    /// <summary>Classification: scores of every class.</summary>
    public IReadOnlyList<ClassScore>? Classes { get; init; }

    /// <summary>Classification: a row per true class, a column per predicted class and a last one for unparsed answers.</summary>
    public IReadOnlyList<IReadOnlyList<int>>? Confusion { get; init; }

    /// <summary>Id of the perplexity protocol.</summary>
    public string? Protocol { get; init; }

    /// <summary>What was named as data.</summary>
    public string? Data { get; init; }

    /// <summary>Fingerprint of the text.</summary>
    public string? DataSha256 { get; init; }

    /// <summary>Fingerprint of the tokenizer.</summary>
    public string? TokenizerSha256 { get; init; }

    /// <summary>Where it was computed.</summary>
    public required string Device { get; init; }

    /// <summary>Numbers in which sums are computed.</summary>
    public required string ComputeDtype { get; init; }

    /// <summary>Numbers in which products read activations.</summary>
    public required string ActivationDtype { get; init; }

    /// <summary>Numbers in which the cache keeps keys and values; absent for F32.</summary>
    public string? KvCache { get; init; }

    /// <summary>Kernel variant.</summary>
    public required string Kernels { get; init; }

    /// <summary>Packings of the linear layers and what each holds: for example <c>codebook4 × 40</c>.</summary>
    public IReadOnlyDictionary<string, int> Packings { get; init; } = new Dictionary<string, int>();

    /// <summary>Threads of the kernels.</summary>
    public int Threads { get; init; }

    /// <summary>Sequences in a forward pass of the perplexity task.</summary>
    public int Batch { get; init; } = 1;

    /// <summary>Seed of everything random.</summary>
    public int Seed { get; init; }

    /// <summary>The numbers, by metric name.</summary>
    public IReadOnlyDictionary<string, double> Metrics { get; init; } = new Dictionary<string, double>();

    /// <summary>95 % intervals of some of them.</summary>
    public IReadOnlyDictionary<string, double[]> Intervals { get; init; } = new Dictionary<string, double[]>();

    /// <summary>How the energy was found: rapl, nvml or estimate.</summary>
    public string? EnergySource { get; init; }

    /// <summary>How exactly, in a sentence.</summary>
    public string? EnergyDescription { get; init; }

    /// <summary>Country, year and source of the carbon intensity.</summary>
    public string? CarbonSource { get; init; }

    /// <summary>How peak memory was found.</summary>
    public string? MemorySource { get; init; }

    /// <summary>Where and with what.</summary>
    public required MeasuredEnvironment Environment { get; init; }
}
