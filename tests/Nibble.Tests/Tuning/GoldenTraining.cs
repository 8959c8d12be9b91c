using System.Text.Json;
using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>A folder of Goldens/training: ten steps of AdamW on a tiny model, by PyTorch.</summary>
internal sealed class GoldenTraining : IDisposable
{
    private readonly IWeightSource _weights;

    public GoldenTraining(string name, IBackend backend, string? model = null)
    {
        string folder = Path.Combine(TestData.Goldens, "models", model ?? name);
        HfFolder opened = HfFolder.Open(folder);
        Architecture = Registry.Architecture(opened.Config);
        Config = opened.Config;
        _weights = new FloatWeightSource(new DenseWeightSource(opened, Architecture, DType.F32));
        Model = ModelBuilder.Build(opened.Config, _weights, backend);
        using JsonDocument document = JsonDocument.Parse(TestData.Golden("training", name, "golden.json"));
        JsonElement root = document.RootElement;
        Batches = [.. root.GetProperty("batches").EnumerateArray().Select(Batch)];
        Losses = [.. root.GetProperty("losses").EnumerateArray().Select(value => value.GetDouble())];
        FinalNorms = root.GetProperty("final_weight_norms").EnumerateObject().ToDictionary(item => item.Name, item => item.Value.GetDouble());
        FinalSums = root.GetProperty("final_weight_sums").EnumerateObject().ToDictionary(item => item.Name, item => item.Value.GetDouble());
    }

    public ModelConfig Config { get; }

    public IArchitecture Architecture { get; }

    public CausalModel Model { get; }

    public TrainingBatch[] Batches { get; }

    public double[] Losses { get; }

    public Dictionary<string, double> FinalNorms { get; }

    public Dictionary<string, double> FinalSums { get; }

    /// <summary>All parameters of the model.</summary>
    public ParameterSet AllParameters()
    {
        ParameterSet set = new();
        set.AddAll(Model);
        return set;
    }

    /// <summary>A parameter's numbers (its values or its gradient) in logical order, <c>[out, in]</c>.</summary>
    public float[] Logical(Parameter parameter, Tensor values)
    {
        using Tensor rows = ParameterRows.Read(Model.Backend, parameter, values);
        return rows.HostSpan<float>().ToArray();
    }

    public void Dispose()
    {
        Model.Dispose();
        _weights.Dispose();
    }

    private static TrainingBatch Batch(JsonElement rows)
    {
        int[][] ids = [.. rows.EnumerateArray().Select(row => row.EnumerateArray().Select(id => id.GetInt32()).ToArray())];
        return new TrainingBatch([.. ids.SelectMany(row => row)], [.. ids.SelectMany(row => row.Skip(1).Append(-1))], ids.Length, ids[0].Length);
    }
}
