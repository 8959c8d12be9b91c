using Nibble.Backends.Cuda.Driver;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Quantization;

/// <summary>
/// Σ xᵀx of a layer's inputs on the card, in F32 with TF32 off, or from inputs in BF16 with sums in F32. One triangle is computed, in strips, and
/// mirrored at the end. It also keeps the factors that GPTQ made of it, since layers that share an input share them.
/// </summary>
internal sealed class CudaGram(CachingMemory memory, int columns, PhaseTimes? times) : IGramCollector, IDeviceGram
{
    // Half of the work is saved with narrow strips, and products lose speed with too narrow ones.
    private const int Strip = 1024, RowsPerChunk = 64, Threads = 256;

    private readonly CudaStorage _gram = Cleared(memory, (nint)columns * columns * sizeof(float));
    private readonly CudaStorage _magnitudes = Cleared(memory, (nint)columns * sizeof(double));
    private readonly Dictionary<(bool ActOrder, double Damping), (CudaStorage Factor, double? Raised)> _factors = [];
    private long _tokens;

    /// <inheritdoc/>
    public int Columns => columns;

    /// <summary>The matrix, F32 <c>[columns, columns]</c>.</summary>
    public nint Address => _gram.Address;

    /// <inheritdoc/>
    public void Add(Tensor x)
    {
        if (times is not null)
        {
            // Only so that each phase has its own time.
            memory.Device.Synchronize();
        }

        using PhaseTimes.Scope? scope = times?.In("hessian");
        (nint rows, nint address) = (x.Shape.Rows, CudaStorage.AddressOf(x));
        if (rows == 0)
        {
            return;
        }

        for (int start = 0; start < columns; start += Strip)
        {
            // Column-major for cuBLAS: columns start … of its result, from row start on, are the upper triangle here.
            int width = Math.Min(Strip, columns - start);
            nint part = address + (start * x.DType.Size());
            memory.Device.Multiply(new GemmCall(
                part, part, _gram.Address + ((((nint)start * columns) + start) * sizeof(float)), 0, columns - start, width, rows, false, true, columns, columns, columns, x.DType, Add: true));
        }

        nint chunks = (rows + RowsPerChunk - 1) / RowsPerChunk;
        using CudaStorage partial = memory.Rent(chunks * columns * sizeof(float), "calibration");
        memory.Device.Launch(
            CudaKernelNames.Of("magnitude_chunks"), CudaGrid.Columns(columns, chunks),
            [address, (int)CudaMatrix.NumberOf(x.DType), partial.Address, (nint)columns, rows, (nint)RowsPerChunk]);
        memory.Device.Launch(CudaKernelNames.Of("add_magnitudes"), CudaGrid.Elements(columns), [partial.Address, _magnitudes.Address, (nint)columns, chunks]);
        _tokens += rows;
        if (times is not null)
        {
            memory.Device.Synchronize();
        }
    }

    /// <inheritdoc/>
    public GramStatistics Finish()
    {
        long tiles = (columns + 31) / 32;
        memory.Device.Launch(CudaKernelNames.Of("mirror"), new LaunchShape(tiles * tiles, Threads), [_gram.Address, (nint)columns]);
        return new GramStatistics(_tokens, this) { Times = times };
    }

    /// <inheritdoc/>
    public double[] Diagonal()
    {
        using CudaStorage values = Squares();
        return Array.ConvertAll(memory.Download<float>(values), value => (double)value);
    }

    /// <summary>The diagonal on the card, F32; the caller gives it back.</summary>
    public CudaStorage Squares()
    {
        CudaStorage values = memory.Rent((nint)columns * sizeof(float), "calibration");
        memory.Device.Launch(CudaKernelNames.Of("diagonal"), CudaGrid.Elements(columns), [_gram.Address, values.Address, (nint)columns]);
        return values;
    }

    /// <inheritdoc/>
    public double[] Magnitudes() => Array.ConvertAll(memory.Download<double>(_magnitudes), sum => sum / Math.Max(1, _tokens));

    /// <inheritdoc/>
    public double[] ToHost() => Array.ConvertAll(memory.Download<float>(_gram), value => (double)value);

    /// <summary>The factor of the damped Hessian for a way of visiting, made once.</summary>
    /// <param name="statistics">Told how much damping it took.</param>
    /// <param name="order">The column of each visit.</param>
    /// <param name="actOrder">Whether that is the order of falling energy.</param>
    /// <param name="damping">The damping to begin with.</param>
    public CudaStorage Factor(GramStatistics statistics, int[] order, bool actOrder, double damping)
    {
        if (!_factors.TryGetValue((actOrder, damping), out (CudaStorage Factor, double? Raised) found))
        {
            using PhaseTimes.Scope? scope = times?.In("factor");
            CudaStorage factor = CudaInverseFactor.Compute(memory, this, statistics, order, damping);
            _factors.Add((actOrder, damping), found = (factor, statistics.RaisedDamping));
        }

        statistics.RaisedDamping = found.Raised;
        return found.Factor;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _gram.Dispose();
        _magnitudes.Dispose();
        foreach ((CudaStorage factor, _) in _factors.Values)
        {
            factor.Dispose();
        }

        _factors.Clear();
    }

    private static CudaStorage Cleared(CachingMemory memory, nint bytes)
    {
        CudaStorage storage = memory.Rent(bytes, "calibration");
        memory.Device.Clear(storage.Address, bytes);
        return storage;
    }
}
