using System.Diagnostics;
using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Certificates;
using Nibble.Energy;
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
    /// <summary>Where the methods ran.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>Joules that the card took for the work, above what it draws while it waits; null without a card that counts them.</summary>
    public double? EnergyJoules { get; init; }

    /// <summary>How the joules come about; null without a card that counts them.</summary>
    public string? EnergyNote { get; init; }

    /// <summary>Most bytes of the card in use at once; null for work on the processor.</summary>
    public long? DevicePeakMemoryBytes { get; init; }

    /// <summary>Seconds by phase: load, forward (the blocks), hessian, factor, quantize, scaling (AWQ), write, certificate; of methods without data on a card kernels and transfer too, and quantize is then the wait for the writer.</summary>
    public IReadOnlyDictionary<string, double> Phases { get; init; } = new Dictionary<string, double>();
}

/// <summary>How a folder is written.</summary>
public sealed record QuantizerOptions
{
    /// <summary>Replace an existing output folder.</summary>
    public bool Force { get; init; }

    /// <summary>Most bytes of tensors in one file.</summary>
    public long MaxShardBytes { get; init; } = HfFolderWriter.DefaultShardBytes;

    /// <summary>Where methods run: <c>auto</c> (the processor), <c>cpu</c>, <c>cuda</c>, <c>cuda:1</c> …</summary>
    public string Device { get; init; } = "auto";

    /// <summary>The text for methods that look at the inputs of layers; not used by others.</summary>
    public CalibrationRequest? Calibration { get; init; }

    /// <summary>Told what is worth knowing during the work.</summary>
    public Action<string>? Note { get; init; }

    /// <summary>For tests: opens another backend than the device's name says.</summary>
    internal Func<DType, IBackend>? Backend { get; init; }

    /// <summary>Called with the temporary folder when everything stands in it, before it gets its name; an exception leaves nothing behind.</summary>
    public Action<string>? BeforeCommit { get; init; }
}

/// <summary>
/// Quantizes a model folder matrix by matrix: load, quantize, encode, append. With data-free methods peak memory is a few times the
/// largest matrix, whatever the model's size; with calibration the embedding, one block and what the samples take come to it. The output
/// folder appears whole or not at all.
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
        using OutputLock held = OutputLock.Hold(output);
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
        // On a card, hidden states in BF16 are multiplied in BF16 too.
        DType compute = (options.Backend is not null || options.Device.StartsWith("cuda", StringComparison.Ordinal)) && plan.NeedsCalibration && options.Calibration?.States == DType.BF16 ? DType.BF16 : DType.F32;
        using IBackend backend = options.Backend?.Invoke(compute) ?? BackendKind.Create(options.Device, null, compute);
        using NvmlMeter? meter = NvmlMeter.TryStart(backend);
        long start = Stopwatch.GetTimestamp();
        // While a card works, the processor looks at the source.
        Task<CertifiedSource>? source = backend.Quantizer is null ? null : Task.Run(() => Certifier.SourceOf(folder.Path), CancellationToken.None);
        PhaseTimes times = new();
        using OutputFolder target = OutputFolder.Create(output, options.Force);
        (TimeSpan inside, QuantizationReport report, CalibrationJournal? journal) = WriteWeights(folder, plan, target, output, options, backend, times, progress, cancellation);
        double? joules = meter?.Joules();
        Certificate certificate;
        using (times.In("certificate"))
        {
            certificate = source is null ? Certifier.Make(folder.Path, target.Path) : Certifier.Make(folder.Path, target.Path, source.GetAwaiter().GetResult());
        }

        certificate.Write(target.Path);
        Commit(target, options, journal);
        return new QuantizationResult(report, Stopwatch.GetElapsedTime(start).TotalSeconds, inside.TotalSeconds, certificate)
        {
            Phases = times.Seconds,
            Device = backend.Name,
            EnergyJoules = joules,
            EnergyNote = meter?.Numbers,
            DevicePeakMemoryBytes = (backend as CudaBackend)?.PeakBytes,
        };
    }

    /// <summary>Everything but the certificate; the journal of finished blocks, if the work kept one, is the caller's.</summary>
    private static (TimeSpan Inside, QuantizationReport Report, CalibrationJournal? Journal) WriteWeights(
        HfFolder folder, QuantPlan plan, OutputFolder target, string output, QuantizerOptions options, IBackend backend, PhaseTimes times, Action<QuantizationStep>? progress, CancellationToken cancellation)
    {
        TimeSpan inside;
        CalibrationRecord? record = null;
        CalibrationJournal? journal = null;
        try
        {
            using PhaseTimes.Scope whole = times.In("write");
            using QuantizedFolderWriter writer = new(folder, plan, target.Path, options.MaxShardBytes);
            IReadOnlyList<ScalingRecord>? scaling = null;
            if (plan.NeedsCalibration)
            {
                (inside, record, scaling, journal) = new CalibratedWork(writer, plan, options, backend, times, progress, cancellation).Run(folder.Path, output);
            }
            else
            {
                IReadOnlyDictionary<string, StaticActivations>? scales = null;
                if (plan.RoundsActivations)
                {
                    (scales, record, journal) = MeasureActivations(writer, plan, folder.Path, output, options, times, progress, cancellation);
                }

                using PhaseTimes.Scope scope = times.In("quantize");
                if (backend.Quantizer is { } device)
                {
                    device.Times = times;
                }

                inside = WriteMatrices(writer, plan, scales, backend.Quantizer, progress, cancellation);
            }

            return (inside, writer.Finish(record, scaling), journal);
        }
        catch
        {
            journal?.Dispose();
            throw;
        }
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

    /// <summary>Runs the calibration samples through the quantized model to find scales of activations; finished blocks are kept beside the output.</summary>
    private static (IReadOnlyDictionary<string, StaticActivations> Scales, CalibrationRecord Record, CalibrationJournal Journal) MeasureActivations(
        QuantizedFolderWriter writer, QuantPlan plan, string input, string output, QuantizerOptions options, PhaseTimes times, Action<QuantizationStep>? progress, CancellationToken cancellation)
    {
        using PhaseTimes.Scope scope = times.In("forward");
        CalibrationRequest request = options.Calibration!;
        using IBackend host = BackendKind.Create("cpu");
        using StreamedBlocks model = StreamedBlocks.Open(input, host);
        IReadOnlyList<int[]> samples = request.Choose(model.Model.Facts, model.Tokenizer, input, options.Note);
        HashSet<string> planned = [.. plan.Quantized.Select(tensor => tensor.Spec.Path)];
        int done = 0, blocks = model.Model.Blocks.Count;
        CalibrationJournal journal = CalibrationJournal.Open(output, JournalKey.Of(input, plan, samples, request.States, host.KernelVariant));
        try
        {
            journal.Announce(options.Note, blocks);
            // Layers that are quantized need not be read and packed twice.
            ActivationCalibration calibration = new(plan, writer.Load) { BeforeBlock = block => model.Load(block, path => !planned.Contains(path)), AfterBlock = StreamedBlocks.Unload };
            IReadOnlyDictionary<string, StaticActivations> scales = calibration.Measure(
                model.Model, samples, request.MemoryBytes, request.States, path => progress?.Invoke(new(++done, 2 * plan.Tensors.Count, path)), cancellation, journal);
            CalibrationRecord record = new(CalibrationText.NameOf(request.Data), samples.Count, samples[0].Length, request.Seed, 0)
            {
                Coverage = [.. scales.Keys.Select(path => new LayerCoverage(path, samples.Sum(sample => (long)sample.Length), 0))],
                States = request.States == DType.F32 ? null : request.States.ToString().ToLowerInvariant(),
            };
            return (scales, record, journal);
        }
        catch (OperationCanceledException error)
        {
            journal.Dispose();
            throw journal.Interrupted(blocks, error);
        }
        catch
        {
            journal.Dispose();
            throw;
        }
    }

    private static TimeSpan WriteMatrices(
        QuantizedFolderWriter writer, QuantPlan plan, IReadOnlyDictionary<string, StaticActivations>? scales, IMatrixQuantizer? device, Action<QuantizationStep>? progress, CancellationToken cancellation)
    {
        int before = scales is null ? 0 : plan.Tensors.Count;
        TimeSpan inside = TimeSpan.Zero;
        using WorkAside aside = new(isInline: device is null);
        for (int i = 0; i < plan.Tensors.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            inside += WriteMatrix(writer, plan.Tensors[i], scales, device, aside);
            progress?.Invoke(new(before + i + 1, before + plan.Tensors.Count, plan.Tensors[i].Spec.Path));
        }

        aside.Wait();
        return inside;
    }

    /// <summary>Writes one matrix, quantized without data or as it is; returns the time inside the method.</summary>
    internal static TimeSpan WriteMatrix(QuantizedFolderWriter writer, PlannedTensor tensor, IReadOnlyDictionary<string, StaticActivations>? scales = null)
    {
        using WorkAside inline = new(isInline: true);
        return WriteMatrix(writer, tensor, scales, null, inline);
    }

    /// <summary>The same with scales of activations that were measured, and with a device that runs the method; what is to be written goes aside.</summary>
    internal static TimeSpan WriteMatrix(
        QuantizedFolderWriter writer, PlannedTensor tensor, IReadOnlyDictionary<string, StaticActivations>? scales, IMatrixQuantizer? device, WorkAside aside)
    {
        if (tensor.Settings is null)
        {
            aside.Add(() => writer.Keep(tensor));
            return TimeSpan.Zero;
        }

        if (device is not null && tensor.Settings.RepairRank is null)
        {
            (RepairedWeight fast, TimeSpan time) = writer.WithStored(tensor.Spec, stored => Make(tensor, stored, scales, device));
            aside.Add(() => Write(writer, tensor, fast));
            return time;
        }

        using Tensor dense = writer.Load(tensor.Spec);
        (RepairedWeight made, TimeSpan inside) = Make(tensor, dense, scales, device);
        WeightError error = made.Repair is null ? WeightError.Of(dense, made.Weight) : WeightError.Of(dense, made.Weight, made.Repair);
        aside.Add(() => Write(writer, tensor, made with { Error = error }));
        return inside;
    }

    private static (RepairedWeight Made, TimeSpan Inside) Make(PlannedTensor tensor, Tensor dense, IReadOnlyDictionary<string, StaticActivations>? scales, IMatrixQuantizer? device)
    {
        long start = Stopwatch.GetTimestamp();
        RepairedWeight made = RepairedQuantization.Quantize(tensor, dense, null, device);
        if (scales?.GetValueOrDefault(tensor.Spec.Path) is { } found)
        {
            ((AffineWeight)made.Weight).Activations = found;
        }

        return (made, Stopwatch.GetElapsedTime(start));
    }

    private static void Write(QuantizedFolderWriter writer, PlannedTensor tensor, RepairedWeight made)
    {
        using QuantizedWeight weight = made.Weight;
        writer.Add(tensor, weight, made.Repair, made.Error!.Value);
    }
}
