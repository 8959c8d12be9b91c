using System.Text.Json.Nodes;
using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;
using Nibble.Tensors;

namespace Nibble.Tuning.Merging;

/// <summary>
/// Merges an adapter back into the format of its quantized base: the file keeps layout, size and scales, only codes change. Rounding
/// every weight on its own mostly undoes a small adapter; here the layers are rounded one block after another, each from the inputs
/// that the merged blocks before it give on the task's own data, with GPTQ's error compensation (arXiv 2210.17323) on the stored grid.
/// </summary>
public sealed class RequantizeMerge : IDisposable
{
    private readonly RequantizeOptions _options;
    private readonly RequantizedFolder _folder;
    private readonly LoadedModel _model;
    private readonly IAdapter _adapter;
    private readonly IReadOnlyDictionary<string, LinearSpec> _specs;
    private readonly Remainder? _remainder;

    private RequantizeMerge(RequantizeOptions options)
    {
        _options = options;
        _folder = new RequantizedFolder(options.Model);
        _model = LoadedModel.Load(options.Model, new LoadOptions { Threads = options.Threads });
        _adapter = Adapters.Load(options.Adapter, _model.Config, _model.Backend);
        _specs = Registry.Architecture(_model.Config).Linears(_model.Config).ToDictionary(spec => spec.Path);
        _remainder = options.Remainder is null ? null : new Remainder(options.RemainderRank, options.Output, options.Seed, _model.Backend);
    }

    /// <summary>Merges, measures and writes.</summary>
    /// <param name="options">What is merged.</param>
    /// <param name="note">Receives what is being done.</param>
    /// <param name="cancellation">Ends the work; nothing is written then.</param>
    /// <exception cref="NibbleException">The base is not quantized, the adapter does not fit, or the data is too short.</exception>
    public static MergeReport Run(RequantizeOptions options, Action<string>? note = null, CancellationToken cancellation = default)
    {
        OutputFolder.Check(options.Output, options.Force);
        if (options.Remainder is { } remainder)
        {
            OutputFolder.Check(remainder, options.Force);
        }

        if (options.RemainderRank < 1)
        {
            Throw.Usage($"--remainder-rank {options.RemainderRank}", "a rank is at least 1");
        }

        using RequantizeMerge merge = new(options);
        return merge.Work(note ?? (_ => { }), cancellation);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Dispose();
        _adapter.Dispose();
        _folder.Dispose();
    }

    private MergeReport Work(Action<string> note, CancellationToken cancellation)
    {
        RequantizeData data = RequantizeData.Read(_options, _model);
        using MergeMeasure measure = new(data.HeldOut, cancellation);
        note($"measuring the base on {data.HeldOut.ScoredTokens:N0} held-out tokens");
        MergeQuality bare = measure.Base(_model.Model);
        HashSet<string> targets = Attach();
        note($"measuring base and adapter ({targets.Count} layers)");
        MergeQuality adapted = measure.Adapter(_model.Model);
        note("measuring the naive merge");
        MergeQuality naive = Naive(targets, measure);
        note($"rounding {targets.Count} layers on {data.Samples.Count} samples of {data.Samples[0].Length} tokens");
        using (BlockCalibration calibration = new(_model.Model, data.Samples))
        {
            calibration.Run(Merge, step => note($"block {step.Block + 1}/{step.Blocks}: {step.Path}"), cancellation, targets.Contains);
        }

        MergeReport report = new(data.HeldOut.ScoredTokens, data.Samples.Count, targets.Count, bare, adapted, naive, measure.Of(_model.Model), Remainder: null);
        using LoraAdapter? remainder = _remainder?.Adapter();
        if (remainder is not null)
        {
            note($"measuring with the remainder of rank {_options.RemainderRank}");
            remainder.Attach(_model.Model);
            report = report with { Remainder = measure.Of(_model.Model) };
        }

        Write(report, remainder);
        return report;
    }

    private void Write(MergeReport report, LoraAdapter? remainder)
    {
        using OutputFolder output = OutputFolder.Create(_options.Output, _options.Force);
        _folder.Write(output.Path, Record(report));
        output.Commit();
        if (remainder is not null)
        {
            using OutputFolder beside = OutputFolder.Create(_options.Remainder!, _options.Force);
            remainder.Save(beside.Path);
            beside.Commit();
        }
    }

    /// <summary>Puts the adapter on the model; returns the layers that it changes.</summary>
    private HashSet<string> Attach()
    {
        HashSet<ILinear> before = [.. _model.Model.Blocks.SelectMany(block => block.Linears)];
        _adapter.Attach(_model.Model);
        HashSet<string> targets = [.. _model.Model.Blocks.SelectMany(block => block.Linears).Where(linear => !before.Contains(linear)).Select(linear => linear.Path)];
        string[] dense = [.. targets.Where(path => !_folder.IsQuantized(_specs[path]))];
        if (targets.Count == 0 || dense.Length > 0)
        {
            Throw.BadInput(
                $"adapter {_options.Adapter} cannot be merged into the codes of {_options.Model}",
                targets.Count == 0 ? "it changes no matrix of a block" : $"these layers are not quantized there: {string.Join(", ", dense)}",
                "merge it into a dense model: leave out --requantize");
        }

        return targets;
    }

    /// <summary>What the layer should compute: stored values with the adapter's change, F32 <c>[out, in]</c>.</summary>
    private Tensor Wanted(LinearSpec spec, QuantizedWeight stored)
    {
        Tensor matrix = stored.Dequantize();
        _adapter.AddDelta(spec, matrix);
        FiniteCheck.Require(matrix, spec.WeightName, "base and adapter");
        return matrix;
    }

    private MergeQuality Naive(HashSet<string> targets, MergeMeasure measure)
    {
        using LoadedModel copy = LoadedModel.Load(_options.Model, new LoadOptions { Threads = _options.Threads });
        foreach (Block block in copy.Model.Blocks)
        {
            block.Replace(linear =>
            {
                if (!targets.Contains(linear.Path))
                {
                    return linear;
                }

                LinearSpec spec = _specs[linear.Path];
                using QuantizedWeight stored = _folder.Read(spec);
                using Tensor wanted = Wanted(spec, stored);
                using QuantizedWeight rounded = StoredGrid.Of(stored).Round(wanted);
                PackedLinear merged = new(linear.Path, WeightPacking.Pack(rounded, spec, copy.Backend, ActivationChoice.F32), linear.Bias);
                linear.Dispose();
                return merged;
            });
        }

        return measure.Of(copy.Model);
    }

    private IPackedWeight Merge(string path, GramStatistics gram)
    {
        LinearSpec spec = _specs[path];
        using QuantizedWeight stored = _folder.Read(spec);
        using Tensor wanted = Wanted(spec, stored);
        using QuantizedWeight merged = GridRounder.Round(StoredGrid.Of(stored), wanted, gram);
        _folder.Change(spec, stored, merged, wanted);
        if (_remainder is not null)
        {
            using Tensor values = merged.Dequantize();
            _remainder.Add(spec, wanted, values);
        }

        return WeightPacking.Pack(merged, spec, _model.Backend, ActivationChoice.F32);
    }

    private JsonObject Record(MergeReport report) => new()
    {
        ["adapter"] = Path.GetFileName(Path.TrimEndingDirectorySeparator(_options.Adapter)),
        ["data"] = Path.GetFileName(_options.Data),
        ["samples"] = report.CalibrationSamples,
        ["seed"] = _options.Seed,
        ["changed_layers"] = report.ChangedLayers,
    };
}
