using System.Text.Json;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>A folder of Goldens/training: ten steps of AdamW on a tiny model, by PyTorch.</summary>
internal sealed class GoldenTraining : IDisposable
{
    private readonly IWeightSource _weights;

    public GoldenTraining(string name, CpuBackend backend, string? model = null)
    {
        string folder = Path.Combine(TestData.Goldens, "models", model ?? name);
        HfFolder opened = HfFolder.Open(folder);
        Architecture = Registry.Architecture(opened.Config);
        Config = opened.Config;
        _weights = new FloatWeightSource(new DenseWeightSource(opened, Architecture, DType.F32));
        Model = ModelBuilder.Build(opened.Config, _weights, backend);
        Folder = Path.Combine(TestData.Goldens, "training", name);
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Folder, "golden.json")));
        JsonElement root = document.RootElement;
        Batches = [.. root.GetProperty("batches").EnumerateArray().Select(Batch)];
        Losses = [.. root.GetProperty("losses").EnumerateArray().Select(value => value.GetDouble())];
        FinalNorms = root.GetProperty("final_weight_norms").EnumerateObject().ToDictionary(item => item.Name, item => item.Value.GetDouble());
        FinalSums = root.GetProperty("final_weight_sums").EnumerateObject().ToDictionary(item => item.Name, item => item.Value.GetDouble());
    }

    public string Folder { get; }

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
        foreach ((string name, object holder) in Model.Parameters)
        {
            if (holder is IPackedWeight weight)
            {
                set.Add(name, weight, Model.Backend);
            }
            else
            {
                set.Add(name, (Tensor)holder, Model.Backend);
            }
        }

        return set;
    }

    /// <summary>Rows of a parameter's numbers in logical order, <c>[out, in]</c>.</summary>
    public static unsafe float[] Logical(Parameter parameter, Tensor values)
    {
        float[] result = new float[parameter.Shape.Count];
        if (parameter.Weight is not CpuPacking packing)
        {
            values.HostSpan<float>().CopyTo(result);
            return result;
        }

        int width = packing.Variant.PanelWidth, columns = (int)packing.In;
        for (int i = 0; i < result.Length; i++)
        {
            (int row, int k) = (i / columns, i % columns);
            result[i] = ((float*)values.HostPointer)[(((row / width * columns) + k) * width) + (row % width)];
        }

        return result;
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
