using System.Diagnostics;
using Nibble.Certificates;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>One step of a quantization, for progress.</summary>
/// <param name="Done">Matrices that are finished.</param>
/// <param name="Total">Matrices in all.</param>
/// <param name="Path">The one that was just finished.</param>
public readonly record struct QuantizationStep(int Done, int Total, string Path)
{
    /// <summary>Share of all elements that is finished, 0 to 1; 0 where it is not known.</summary>
    public double Share { get; init; }
}

/// <summary>A finished quantization.</summary>
/// <param name="Report">What is saved with the model.</param>
/// <param name="Seconds">Time of the whole work.</param>
/// <param name="QuantizationSeconds">Time inside the methods alone.</param>
/// <param name="Certificate">How far the result's logits are from the source's.</param>
public sealed record QuantizationResult(QuantizationReport Report, double Seconds, double QuantizationSeconds, Certificate Certificate)
{
    /// <summary>Seconds by phase: load, forward (the blocks), hessian, factor, quantize, scaling (AWQ), write, certificate.</summary>
    public IReadOnlyDictionary<string, double> Phases { get; init; } = new Dictionary<string, double>();
}

/// <summary>How a folder is written.</summary>
public sealed record QuantizerOptions
{
    /// <summary>Replace an existing output folder.</summary>
    public bool Force { get; init; }

    /// <summary>Most bytes of tensors in one file.</summary>
    public long MaxShardBytes { get; init; } = HfFolderWriter.DefaultShardBytes;

    /// <summary>The text for methods that look at the inputs of layers; not used by others.</summary>
    public CalibrationRequest? Calibration { get; init; }

    /// <summary>Told what is worth knowing during the work.</summary>
    public Action<string>? Note { get; init; }

    /// <summary>Called with the temporary folder when everything stands in it, before it gets its name; an exception leaves nothing behind.</summary>
    public Action<string>? BeforeCommit { get; init; }
}

/// <summary>
/// Quantizes a model folder matrix by matrix: load, quantize, encode, append. With data-free methods peak memory is a few times the
/// largest matrix, whatever the model's size; with calibration the model is in memory as well. The output folder appears whole or not at all.
/// </summary>
public static class Quantizer
{
    /// <summary>Opens a dense model and plans its quantization; nothing is written.</summary>
    /// <exception cref="NibbleException">The model is quantized already, or the plan does not fit it.</exception>
    public static (HfFolder Folder, QuantPlan Plan) Prepare(string input, PlanRequest request)
    {
        HfFolder folder = HfFolder.Open(input);
        try
        {
            if (folder.Config.QuantMethod is { } present)
            {
                Throw.BadInput($"{input} is quantized already ({present})", "quantizing codes again would add a second error", "give the dense model it was made from");
            }

            IArchitecture architecture = Registry.Architecture(folder.Config);
            QuantPlan plan = QuantPlan.Create(folder.Config, request);
            // The source does not own the folder's lifetime here: it is only asked about shapes.
            ModelBuilder.Check(architecture, folder.Config, new DenseWeightSource(folder, architecture));
            plan.Check(folder, architecture);
            return (folder, plan);
        }
        catch
        {
            folder.Dispose();
            throw;
        }
    }

    /// <summary>Quantizes a folder into another one.</summary>
    public static QuantizationResult Run(
        string input, string output, PlanRequest request, QuantizerOptions? options = null, Action<QuantizationStep>? progress = null, CancellationToken cancellation = default)
    {
        options ??= new QuantizerOptions();
        OutputFolder.Check(output, options.Force);
        (HfFolder folder, QuantPlan plan) = Prepare(input, request);
        using (folder)
        {
            if (options.Calibration is null)
            {
                plan.RequireDataFree();
            }

            return Write(folder, plan, output, options, progress, cancellation);
        }
    }

    private static QuantizationResult Write(
        HfFolder folder, QuantPlan plan, string output, QuantizerOptions options, Action<QuantizationStep>? progress, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        PhaseTimes times = new();
        TimeSpan inside;
        using OutputFolder target = OutputFolder.Create(output, options.Force);
        QuantizationReport report;
        CalibrationJournal? journal = null;
        using (times.In("write"))
        using (QuantizedFolderWriter writer = new(folder, plan, target.Path, options.MaxShardBytes))
        {
            CalibrationRecord? record = null;
            IReadOnlyList<ScalingRecord>? scaling = null;
            if (plan.NeedsCalibration)
            {
                (inside, record, scaling, journal) = new CalibratedWork(writer, plan, options, times, progress, cancellation).Run(folder.Path, output);
            }
            else
            {
                (IReadOnlyDictionary<string, StaticActivations>? scales, record) = plan.RoundsActivations ? MeasureActivations(writer, plan, folder.Path, options, times, progress, cancellation) : default;
                using PhaseTimes.Scope scope = times.In("quantize");
                inside = WriteMatrices(writer, plan, scales, progress, cancellation);
            }

            report = writer.Finish(record, scaling);
        }

        Certificate certificate;
        using (times.In("certificate"))
        {
            certificate = Certifier.Make(folder.Path, target.Path);
        }

        certificate.Write(target.Path);
        Commit(target, options, journal);
        return new QuantizationResult(report, Stopwatch.GetElapsedTime(start).TotalSeconds, inside.TotalSeconds, certificate) { Phases = times.Seconds };
    }

    private static void Commit(OutputFolder target, QuantizerOptions options, CalibrationJournal? journal)
    {
        using (journal)
        {
            try
            {
                options.BeforeCommit?.Invoke(target.Path);
            }
            catch
            {
                // A result that does not stand its check must not be made again from the same blocks.
                journal?.Delete();
                throw;
            }

            target.Commit();
            journal?.Delete();
        }
    }

    /// <summary>Runs the calibration samples through the quantized model to find scales of activations.</summary>
    private static (IReadOnlyDictionary<string, StaticActivations> Scales, CalibrationRecord Record) MeasureActivations(
        QuantizedFolderWriter writer, QuantPlan plan, string input, QuantizerOptions options, PhaseTimes times, Action<QuantizationStep>? progress, CancellationToken cancellation)
    {
        using PhaseTimes.Scope scope = times.In("forward");
        CalibrationRequest request = options.Calibration!;
        using LoadedModel model = LoadedModel.Load(input);
        IReadOnlyList<int[]> samples = request.Choose(model);
        int done = 0;
        IReadOnlyDictionary<string, StaticActivations> scales = new ActivationCalibration(plan, writer.Load).Measure(
            model.Model, samples, request.MemoryBytes, request.States, path => progress?.Invoke(new(++done, 2 * plan.Tensors.Count, path)), cancellation);
        return (scales, new(Path.GetFileName(request.Data), samples.Count, samples[0].Length, request.Seed, 0)
        {
            Coverage = [.. scales.Keys.Select(path => new LayerCoverage(path, samples.Sum(sample => (long)sample.Length), 0))],
            States = request.States == DType.F32 ? null : request.States.ToString().ToLowerInvariant(),
        });
    }

    private static TimeSpan WriteMatrices(
        QuantizedFolderWriter writer, QuantPlan plan, IReadOnlyDictionary<string, StaticActivations>? scales, Action<QuantizationStep>? progress, CancellationToken cancellation)
    {
        int before = scales is null ? 0 : plan.Tensors.Count;
        TimeSpan inside = TimeSpan.Zero;
        for (int i = 0; i < plan.Tensors.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            inside += WriteMatrix(writer, plan.Tensors[i], scales);
            progress?.Invoke(new(before + i + 1, before + plan.Tensors.Count, plan.Tensors[i].Spec.Path));
        }

        return inside;
    }

    /// <summary>Writes one matrix, quantized without data or as it is; returns the time inside the method.</summary>
    internal static TimeSpan WriteMatrix(QuantizedFolderWriter writer, PlannedTensor tensor, IReadOnlyDictionary<string, StaticActivations>? scales = null)
    {
        if (tensor.Settings is null)
        {
            writer.Keep(tensor);
            return TimeSpan.Zero;
        }

        using Tensor dense = writer.Load(tensor.Spec);
        long start = Stopwatch.GetTimestamp();
        RepairedWeight made = RepairedQuantization.Quantize(tensor, dense, null);
        using QuantizedWeight weight = made.Weight;
        TimeSpan inside = Stopwatch.GetElapsedTime(start);
        if (scales?.GetValueOrDefault(tensor.Spec.Path) is { } found)
        {
            ((AffineWeight)weight).Activations = found;
        }

        writer.Add(tensor, dense, weight, made.Repair);
        return inside;
    }
}
