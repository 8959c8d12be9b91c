using Nibble.Backends;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Awq;

/// <summary>
/// Moves AWQ's factors block by block: columns of the layers that read an input are multiplied, the norm or the rows of the layer
/// before are divided, in the model that calibration runs and in what is written. The block computes the same function as before.
/// </summary>
internal sealed class InputScaling(CausalModel model, QuantizedFolderWriter writer, QuantPlan plan)
{
    private readonly Dictionary<string, PlannedTensor> _planned = plan.Tensors.ToDictionary(tensor => tensor.Spec.Path);
    private readonly Dictionary<string, Tensor> _vectors =
        model.Parameters.Where(item => item.Holder is Tensor && plan.FoldedVectors.Contains(item.Name)).ToDictionary(item => item.Name, item => (Tensor)item.Holder);

    private readonly Dictionary<string, Func<int, float>> _columns = [], _rows = [];
    private readonly List<ScalingRecord> _records = [];

    /// <summary>What was done, in the order of the model; null if the plan scales nothing.</summary>
    public IReadOnlyList<ScalingRecord>? Records => plan.Folds.Count == 0 ? null : _records;

    /// <summary>A matrix as F32 <c>[out, in]</c> with all factors that it has got so far; the caller disposes it.</summary>
    public Tensor Load(LinearSpec spec)
    {
        Tensor matrix = writer.Load(spec);
        Func<int, float>? column = _columns.GetValueOrDefault(spec.Path), row = _rows.GetValueOrDefault(spec.Path);
        for (int i = 0; i < (int)spec.Out && (row is not null || column is not null); i++)
        {
            Span<float> values = matrix.Slice(i, 1).HostSpan<float>();
            float divisor = row?.Invoke(i) ?? 1;
            for (int j = 0; j < values.Length; j++)
            {
                values[j] = values[j] * (column?.Invoke(j) ?? 1) / divisor;
            }
        }

        return matrix;
    }

    /// <summary>Finds and moves the factors of a block whose layers are dense.</summary>
    public void Prepare(BlockCalibration calibration, Block block)
    {
        PlannedFold[] places = [.. plan.Folds.Where(item => block.Linears.Any(linear => linear.Path == item.Fold.Layers[0]))];
        PlannedFold[] open = [.. places.Where(item => item.Obstacle is null)];
        IReadOnlyDictionary<string, GramStatistics> inputs = calibration.Measure(block, [.. open.SelectMany(item => item.Fold.Layers)]);
        ScaleChoice[] choices = [.. open.Select(item => Search(block, item.Fold, inputs[item.Fold.Layers[0]]))];
        foreach ((PlannedFold item, ScaleChoice choice) in open.Zip(choices))
        {
            Move(item, choice.Factors);
        }

        HashSet<string> touched = [.. open.SelectMany(item => item.Fold.Layers.Append(item.Fold.Source))];
        foreach (ILinear linear in block.Linears.Where(linear => touched.Contains(linear.Path)).ToArray())
        {
            using Tensor scaled = Load(_planned[linear.Path].Spec);
            BlockCalibration.Put(block, linear, model.Backend.Prepare(scaled));
        }

        foreach (IDeviceGram device in inputs.Values.Select(statistics => statistics.Device).OfType<IDeviceGram>().Distinct())
        {
            device.Dispose();
        }

        Dictionary<PlannedFold, ScaleChoice> found = open.Zip(choices).ToDictionary(pair => pair.First, pair => pair.Second);
        _records.AddRange(places.Select(item => Record(item, found.GetValueOrDefault(item))));
    }

    private static ScalingRecord Record(PlannedFold item, ScaleChoice? choice) => new(
        item.Fold.Source, item.Fold.Layers, choice?.Ratio, choice?.Duo, choice is null ? null : choice.Before == 0 ? 1 : choice.After / choice.Before, item.Obstacle);

    private ScaleChoice Search(Block block, ActivationFold fold, GramStatistics inputs)
    {
        if (model.Backend.Quantizer is { } device)
        {
            using IScaleErrors errors = device.ScaleErrors([.. fold.Layers.Select(path => (block.Linears.First(linear => linear.Path == path).Weight, _planned[path].Facts!))], inputs);
            return new ScaleSearch(errors, fold, inputs).Run();
        }

        ScaledLayer[] layers = [.. fold.Layers.Select(path => new ScaledLayer(writer.Load(_planned[path].Spec), _planned[path].Facts!))];
        try
        {
            using HostScaleErrors errors = new(layers, inputs);
            return new ScaleSearch(errors, fold, inputs).Run();
        }
        finally
        {
            Array.ForEach(layers, layer => layer.Weight.Dispose());
        }
    }

    private void Move(PlannedFold item, float[] factors)
    {
        ActivationFold fold = item.Fold;
        foreach (string path in fold.Layers)
        {
            _columns.Add(path, column => factors[fold.ChannelOf(column)]);
        }

        int first = fold.FirstRow;
        if (!fold.IsNorm)
        {
            _rows.Add(fold.Source, row => row >= first && row < first + factors.Length ? factors[row - first] : 1);
        }

        foreach (string name in item.Vectors.Where(_vectors.ContainsKey))
        {
            Tensor vector = _vectors[name];
            float[] values = new float[vector.Shape.Count];
            model.Backend.Read<float>(vector, values);
            for (int i = 0; i < factors.Length; i++)
            {
                values[first + i] /= factors[i];
            }

            model.Backend.Write<float>(values, vector);
            writer.Change(name, values);
        }
    }
}
