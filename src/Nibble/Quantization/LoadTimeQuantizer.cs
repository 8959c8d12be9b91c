using System.Diagnostics;
using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// A dense model that is quantized while it loads: the same weights, bit for bit, as saving a quantized folder and loading that.
/// </summary>
public sealed class LoadTimeQuantizer : IWeightSource
{
    private readonly HfFolder _folder;
    private readonly DenseWeightSource _dense;
    private readonly Dictionary<string, PlannedTensor> _plan;
    private readonly ActivationChoice _activations;
    private (string Path, RepairTerm Term)? _repair;

    /// <summary>Reads from <paramref name="folder"/>, which it then owns.</summary>
    /// <param name="folder">A dense model.</param>
    /// <param name="architecture">Its family.</param>
    /// <param name="plan">What happens to each matrix; methods that need calibration cannot run here.</param>
    /// <param name="dtype">Dtype of the matrices that stay dense; null as stored.</param>
    /// <param name="activations">In which numbers products read their activations.</param>
    public LoadTimeQuantizer(HfFolder folder, IArchitecture architecture, QuantPlan plan, DType? dtype = null, ActivationChoice activations = ActivationChoice.F32)
    {
        plan.RequireDataFree();
        _folder = folder;
        _dense = new DenseWeightSource(folder, architecture, dtype);
        _plan = plan.Quantized.ToDictionary(tensor => tensor.Spec.Path);
        _activations = activations;
    }

    /// <summary>Time spent in quantization methods so far, reading and packing left out.</summary>
    public TimeSpan QuantizationTime { get; private set; }

    /// <inheritdoc/>
    public string Source => _folder.Path;

    /// <inheritdoc/>
    public IReadOnlyCollection<string> Names => _dense.Names;

    /// <inheritdoc/>
    public Shape? ShapeOf(string name) => _dense.ShapeOf(name);

    /// <inheritdoc/>
    public Tensor Tensor(string name) => _dense.Tensor(name);

    /// <inheritdoc/>
    public string? Problem(LinearSpec spec) => _dense.Problem(spec);

    /// <inheritdoc/>
    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        if (!_plan.TryGetValue(spec.Path, out PlannedTensor? planned))
        {
            return _dense.Linear(spec, backend);
        }

        RepairedWeight made = Repaired(planned, backend.Quantizer);
        using QuantizedWeight weight = made.Weight;
        using LowRankPair? repair = made.Repair;
        _repair = repair is null ? null : (spec.Path, repair.Pack(backend));
        return WeightPacking.Pack(weight, spec, backend, _activations);
    }

    /// <inheritdoc/>
    RepairTerm? IWeightSource.Repair(LinearSpec spec, IBackend backend)
    {
        if (_repair is not { } last || last.Path != spec.Path)
        {
            return null;
        }

        _repair = null;
        return last.Term;
    }

    /// <summary>The matrix of a layer before it is quantized, F32; the caller disposes it.</summary>
    internal Tensor Dense(LinearSpec spec)
    {
        using Tensor stored = _dense.Matrix(spec);
        return stored.To(DType.F32);
    }

    /// <summary>The quantized weight of a planned matrix; the caller disposes it.</summary>
    public QuantizedWeight Quantize(PlannedTensor planned)
    {
        RepairedWeight made = Repaired(planned, null);
        made.Repair?.Dispose();
        return made.Weight;
    }

    private RepairedWeight Repaired(PlannedTensor planned, IMatrixQuantizer? device)
    {
        using Tensor stored = _dense.Matrix(planned.Spec);
        bool asStored = device is not null && planned.Settings!.RepairRank is null;
        using Tensor? floats = asStored ? null : stored.To(DType.F32);
        long start = Stopwatch.GetTimestamp();
        RepairedWeight weight = RepairedQuantization.Quantize(planned, floats ?? stored, null, device);
        QuantizationTime += Stopwatch.GetElapsedTime(start);
        return weight;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _repair?.Term.Dispose();
        _folder.Dispose();
    }
}
