using System.Text.Json;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tests.Models;

/// <summary>A folder of Goldens: a tiny random model and the logits that a reference implementation computed.</summary>
internal sealed class GoldenModel : IDisposable
{
    private readonly IBackend _backend;
    private readonly IWeightSource _weights;

    public GoldenModel(string name, IBackend? backend = null, DType? dtype = null)
    {
        string folder = Path.Combine(TestData.Goldens, name);
        _backend = backend ?? new CpuBackend(new CpuOptions(Threads: 1));
        HfFolder opened = HfFolder.Open(folder);
        _weights = new DenseWeightSource(opened, Registry.Architecture(opened.Config), dtype);
        Model = ModelBuilder.Build(opened.Config, _weights, _backend);
        using JsonDocument document = JsonDocument.Parse(TestData.Golden(name, "golden.json"));
        Runs = [.. document.RootElement.GetProperty("runs").EnumerateArray().Select(run => new GoldenRun(run))];
    }

    /// <summary>Every model: those of transformers, and those written out by hand.</summary>
    public static TheoryData<string> Names =>
        [.. new[] { "models", "reference" }.SelectMany(group => Directory.EnumerateDirectories(Path.Combine(TestData.Goldens, group)))
            .Select(folder => Path.GetRelativePath(TestData.Goldens, folder)).Order(StringComparer.Ordinal)];

    public CausalModel Model { get; }

    public GoldenRun[] Runs { get; }

    public void Dispose()
    {
        Model.Dispose();
        _weights.Dispose();
    }
}

/// <summary>One forward pass of the reference: the real tokens of each row, and logits of real positions (or label scores).</summary>
internal sealed class GoldenRun
{
    public GoldenRun(JsonElement run)
    {
        Name = run.GetProperty("name").GetString()!;
        int[][] ids = [.. run.GetProperty("input_ids").EnumerateArray().Select(Ints)];
        int[][] mask = run.TryGetProperty("attention_mask", out JsonElement given)
            ? [.. given.EnumerateArray().Select(Ints)]
            : [.. ids.Select(row => row.Select(_ => 1).ToArray())];
        Rows = [.. ids.Zip(mask, (row, real) => row.Where((_, i) => real[i] == 1).ToArray())];
        Logits = run.GetProperty("logits").Clone();
    }

    public string Name { get; }

    public int[][] Rows { get; }

    public JsonElement Logits { get; }

    public static float[] Floats(JsonElement row) => [.. row.EnumerateArray().Select(value => (float)value.GetDouble())];

    private static int[] Ints(JsonElement row) => [.. row.EnumerateArray().Select(value => value.GetInt32())];
}
