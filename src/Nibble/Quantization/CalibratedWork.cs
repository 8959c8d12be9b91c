using System.Diagnostics;
using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization.Awq;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// The matrices of a plan with methods that look at the inputs of layers: the dense model runs the calibration samples block by block,
/// each layer is quantized, written and put in place, and the next block sees what the quantized ones before it give.
/// </summary>
internal sealed class CalibratedWork(
    QuantizedFolderWriter writer, QuantPlan plan, QuantizerOptions options, IBackend backend, PhaseTimes times, Action<QuantizationStep>? progress, CancellationToken cancellation) : IBlockJournal
{
    private readonly Dictionary<string, PlannedTensor> _planned = plan.Tensors.ToDictionary(tensor => tensor.Spec.Path);
    private readonly List<LayerCoverage> _coverage = [];
    private readonly List<WeightRecord> _block = [];
    private readonly WorkAside _aside = new(isInline: backend.Quantizer is null);
    private CalibrationJournal? _journal;
    private Dictionary<string, ILinear> _layers = [];
    private InputScaling? _scaling;
    private TimeSpan _inside;
    private readonly List<RepairTerm> _terms = [];
    private readonly Dictionary<string, RepairTerm> _pending = [];
    private int _done;
    private long _elements;

    /// <summary>Writes all matrices; returns the time inside the methods and what is known about the calibration and the factors that moved.</summary>
    /// <param name="input">The dense model.</param>
    /// <param name="output">Where the result will stand: the journal of finished blocks is kept beside it.</param>
    public (TimeSpan Inside, CalibrationRecord Record, IReadOnlyList<ScalingRecord>? Scaling, CalibrationJournal Journal) Run(string input, string output)
    {
        RequireBlocksOnly();
        CalibrationRequest request = options.Calibration!;
        using PhaseTimes.Scope load = times.In("load");
        using StreamedBlocks model = StreamedBlocks.Open(input, backend);
        IReadOnlyList<int[]> samples = request.Choose(model.Model.Facts, model.Tokenizer, input, options.Note);
        CalibrationJournal journal = _journal = CalibrationJournal.Open(output, JournalKey.Of(input, plan, samples, request.States, backend.KernelVariant));
        try
        {
            journal.Announce(options.Note, model.Model.Blocks.Count);
            try
            {
                Work(model, samples, request);
                _aside.Wait();
            }
            finally
            {
                _aside.Dispose();
            }

            CalibrationRecord record = new(CalibrationText.NameOf(request.Data), samples.Count, samples[0].Length, request.Seed, _coverage.Count(layer => layer.DeadInputs > 0)) { Coverage = _coverage, States = request.States == DType.F32 ? null : request.States.ToString().ToLowerInvariant() };
            return (_inside, record, _scaling!.Records, journal);
        }
        catch (OperationCanceledException error)
        {
            journal.Dispose();
            throw journal.Interrupted(model.Model.Blocks.Count, error);
        }
        catch
        {
            journal.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public Func<string, IPackedWeight>? Restore(int block)
    {
        if (_journal!.Read(block, WeightRecord.Read) is not { } records)
        {
            return null;
        }

        Dictionary<string, WeightRecord> found = records.ToDictionary(record => record.Coverage.Path);
        return path =>
        {
            IPackedWeight packed = Put(_planned[path], found.GetValueOrDefault(path), statistics: null);
            Report(path);
            return packed;
        };
    }

    /// <inheritdoc/>
    public void Finished(int block)
    {
        WeightRecord[] records = [.. _block];
        _block.Clear();
        _aside.Add(() =>
        {
            _journal!.Write(block, records, (writer, record) => record.Write(writer));
            Array.ForEach(records, record => record.Weight.Dispose());
        });
    }

    private void Work(StreamedBlocks model, IReadOnlyList<int[]> samples, CalibrationRequest request)
    {
        IEnumerable<PlannedTensor> before = plan.Tensors.TakeWhile(tensor => tensor.Spec.Role != LinearRole.Block);
        WriteAll(before);
        InputScaling scaling = _scaling = new(model.Model, writer, plan);
        try
        {
            using PhaseTimes.Scope scope = times.In("forward");
            using BlockCalibration calibration = new(model.Model, samples, memoryBytes: request.MemoryBytes, states: request.States) { Times = times };
            // The factors of blocks that an earlier run finished are found again: the same inputs give the same ones.
            calibration.Around = Around;
            calibration.BeforeBlock = block =>
            {
                using (times.In("load"))
                {
                    model.Load(block);
                }

                if (plan.Folds.Count > 0)
                {
                    Timed(() => scaling.Prepare(calibration, block));
                }

                _layers = block.Linears.ToDictionary(linear => linear.Path);
            };
            calibration.AfterBlock = StreamedBlocks.Unload;
            calibration.Run((path, statistics) => Put(_planned[path], record: null, statistics), step => Report(step.Path), cancellation, journal: this);
        }
        finally
        {
            _terms.ForEach(term => term.Dispose());
        }

        WriteAll(plan.Tensors.Skip(before.Count()).Where(tensor => tensor.Spec.Role != LinearRole.Block));
    }

    private ILinear Around(ILinear linear) => _pending.Remove(linear.Path, out RepairTerm? term) ? new RepairedLinear(linear, term) : linear;

    private void WriteAll(IEnumerable<PlannedTensor> tensors)
    {
        foreach (PlannedTensor tensor in tensors)
        {
            cancellation.ThrowIfCancellationRequested();
            _inside += Quantizer.WriteMatrix(writer, tensor, null, backend.Quantizer, _aside);
            Report(tensor.Spec.Path);
        }
    }

    private void Timed(Action work)
    {
        using PhaseTimes.Scope scope = times.In("scaling");
        long start = Stopwatch.GetTimestamp();
        work();
        _inside += Stopwatch.GetElapsedTime(start);
    }

    /// <summary>Writes a matrix of a block and gives the packing that takes its place: quantized now, or taken from the record of an earlier run.</summary>
    private IPackedWeight Put(PlannedTensor tensor, WeightRecord? record, GramStatistics? statistics)
    {
        using PhaseTimes.Scope scope = times.In("write");
        if (record is null && tensor.Settings is { RepairRank: null } settings && backend.Quantizer is { } device && CanStay(settings))
        {
            return PutOnDevice(tensor, device, settings, statistics);
        }

        using Tensor dense = _scaling!.Load(tensor.Spec);
        if (tensor.Settings is null)
        {
            _aside.Add(() => writer.Keep(tensor));
            return backend.Prepare(dense);
        }

        (QuantizedWeight weight, LowRankPair? repair, _) = record is null ? Quantize(tensor, dense, statistics) : new(record.Weight, record.Repair);
        // Nothing else may write meanwhile, and the dense matrix is needed for it.
        _aside.Wait();
        writer.Add(tensor, dense, weight, repair);
        if (repair is not null)
        {
            RepairTerm term = repair.Pack(backend);
            _terms.Add(term);
            _pending[tensor.Spec.Path] = term;
        }

        IPackedWeight packed = record is not null && repair is null && backend.Quantizer is { } quantizer && CanStay(tensor.Settings)
            ? quantizer.Values(weight)
            : WeightPacking.Pack(weight, tensor.Spec, backend, ActivationChoice.F32);
        Remember(tensor, weight, repair, record?.Coverage ?? new(tensor.Spec.Path, statistics?.Tokens ?? 0, statistics?.DeadInputs ?? 0) { RaisedDamping = statistics?.RaisedDamping }, isNew: record is null);
        return packed;
    }

    // LLM.int8 is a product of its own; repairs and compensated codebooks are found on the processor.
    private static bool CanStay(QuantizationSettings settings) => settings.Method != "int8" && settings.Compensate != true;

    /// <summary>The matrix stays on the device: only codes and scales come to the host.</summary>
    private IPackedWeight PutOnDevice(PlannedTensor tensor, IMatrixQuantizer device, QuantizationSettings settings, GramStatistics? statistics)
    {
        MadeLayer layer;
        using (times.In("quantize"))
        {
            long start = Stopwatch.GetTimestamp();
            layer = device.QuantizeLayer(tensor.Spec.WeightName, _layers[tensor.Spec.Path].Weight, settings, statistics);
            _inside += Stopwatch.GetElapsedTime(start);
        }

        _aside.Add(() =>
        {
            writer.Add(tensor, layer.Made.Weight, null, layer.Made.Error);
            if (!settings.NeedsInputs)
            {
                layer.Made.Weight.Dispose();
            }
        });
        if (settings.NeedsInputs)
        {
            Remember(tensor, layer.Made.Weight, null, new(tensor.Spec.Path, statistics?.Tokens ?? 0, statistics?.DeadInputs ?? 0) { RaisedDamping = statistics?.RaisedDamping }, isNew: true);
        }

        return layer.Values;
    }

    private RepairedWeight Quantize(PlannedTensor tensor, Tensor dense, GramStatistics? statistics)
    {
        using PhaseTimes.Scope scope = times.In("quantize");
        long start = Stopwatch.GetTimestamp();
        RepairedWeight weight = RepairedQuantization.Quantize(tensor, dense, statistics, backend.Quantizer);
        _inside += Stopwatch.GetElapsedTime(start);
        return weight;
    }

    /// <summary>Methods that need no data give the same weight again: only calibrated ones are remembered.</summary>
    private void Remember(PlannedTensor tensor, QuantizedWeight weight, LowRankPair? repair, LayerCoverage coverage, bool isNew)
    {
        if (!tensor.Settings!.NeedsInputs)
        {
            weight.Dispose();
            return;
        }

        _coverage.Add(coverage);
        if (!isNew)
        {
            weight.Dispose();
            return;
        }

        _block.Add(new WeightRecord(weight, coverage, repair));
    }

    private void Report(string path)
    {
        _elements += _planned[path].Count;
        progress?.Invoke(new(++_done, plan.Tensors.Count, path) { Share = _elements / (double)plan.Tensors.Sum(tensor => tensor.Count) });
    }

    private void RequireBlocksOnly()
    {
        PlannedTensor? outside = plan.Quantized.FirstOrDefault(tensor => tensor.Spec.Role != LinearRole.Block && tensor.Settings!.NeedsInputs);
        if (outside is not null)
        {
            Throw.Usage(
                $"method {outside.Settings!.Method} cannot quantize {outside.Spec.Path}",
                "the inputs of layers are collected in the blocks only",
                $"leave it dense, or choose a method without calibration: --override '{outside.Spec.Path}=rtn:bits=8'");
        }
    }
}
