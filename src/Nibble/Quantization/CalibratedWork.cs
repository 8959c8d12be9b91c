using System.Diagnostics;
using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// The matrices of a plan with methods that look at the inputs of layers: the dense model runs the calibration samples block by block,
/// each layer is quantized, written and put in place, and the next block sees what the quantized ones before it give.
/// </summary>
internal sealed class CalibratedWork(QuantizedFolderWriter writer, QuantPlan plan, Action<QuantizationStep>? progress, CancellationToken cancellation)
{
    private readonly Dictionary<string, PlannedTensor> _planned = plan.Tensors.ToDictionary(tensor => tensor.Spec.Path);
    private TimeSpan _inside;
    private int _done;

    /// <summary>Layers some of whose inputs were zero in every sample.</summary>
    private int _layersWithDeadInputs;

    /// <summary>Writes all matrices; returns the time inside the methods and what is known about the calibration.</summary>
    public (TimeSpan Inside, CalibrationRecord Record) Run(string input, CalibrationRequest request)
    {
        RequireBlocksOnly();
        using LoadedModel model = LoadedModel.Load(input);
        IReadOnlyList<int[]> samples = request.Choose(model);
        IEnumerable<PlannedTensor> before = plan.Tensors.TakeWhile(tensor => tensor.Spec.Role != LinearRole.Block);
        WriteAll(before);
        using (BlockCalibration calibration = new(model.Model, samples))
        {
            calibration.Run((path, statistics) => Replace(_planned[path], statistics, model.Backend), step => Report(step.Path), cancellation);
        }

        WriteAll(plan.Tensors.Skip(before.Count()).Where(tensor => tensor.Spec.Role != LinearRole.Block));
        CalibrationRecord record = new(Path.GetFileName(request.Data), samples.Count, samples[0].Length, request.Seed, _layersWithDeadInputs);
        return (_inside, record);
    }

    private void WriteAll(IEnumerable<PlannedTensor> tensors)
    {
        foreach (PlannedTensor tensor in tensors)
        {
            cancellation.ThrowIfCancellationRequested();
            _inside += Quantizer.WriteMatrix(writer, tensor);
            Report(tensor.Spec.Path);
        }
    }

    private IPackedWeight Replace(PlannedTensor tensor, GramStatistics statistics, IBackend backend)
    {
        using Tensor dense = writer.Load(tensor.Spec);
        if (tensor.Settings is null)
        {
            writer.Keep(tensor);
            return backend.Prepare(dense);
        }

        _layersWithDeadInputs += statistics.DeadInputs > 0 ? 1 : 0;
        long start = Stopwatch.GetTimestamp();
        using QuantizedWeight weight = Registry.Method(tensor.Settings.Method).Quantize(tensor.Spec.WeightName, dense, tensor.Settings, statistics);
        _inside += Stopwatch.GetElapsedTime(start);
        writer.Add(tensor, dense, weight);
        return WeightPacking.Pack(weight, tensor.Spec, backend, ActivationChoice.F32);
    }

    private void Report(string path) => progress?.Invoke(new(++_done, plan.Tensors.Count, path));

    private void RequireBlocksOnly()
    {
        PlannedTensor? outside = plan.Quantized.FirstOrDefault(tensor => tensor.Spec.Role != LinearRole.Block && Registry.Method(tensor.Settings!.Method).NeedsCalibration);
        if (outside is not null)
        {
            Throw.Usage(
                $"method {outside.Settings!.Method} cannot quantize {outside.Spec.Path}",
                "the inputs of layers are collected in the blocks only",
                $"leave it dense, or choose a method without calibration: --override '{outside.Spec.Path}=rtn:bits=8'");
        }
    }
}
