using System.Runtime.Intrinsics;
using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>
/// Σ xᵀx over the inputs of a linear layer: half of the Hessian of its squared output error (GPTQ, arXiv 2210.17323, section 2),
/// which is all that GPTQ needs. Batches are multiplied in F32 and summed in double precision.
/// </summary>
public sealed record GramStatistics : CalibrationStatistics
{
    // Layers that share an input get clones: what one of them copies from the device, all of them have.
    private readonly Lazy<double[]> _gram, _magnitudes;

    /// <summary>Statistics on the host.</summary>
    /// <param name="tokens">Rows of activations that were seen.</param>
    /// <param name="columns">Input features.</param>
    /// <param name="gram">Σ xᵀx, <c>[columns, columns]</c>.</param>
    public GramStatistics(long tokens, int columns, double[] gram)
        : base(tokens)
    {
        Columns = columns;
        double[] diagonal = Diagonal = [.. Enumerable.Range(0, columns).Select(i => gram[(i * (long)columns) + i])];
        (_gram, _magnitudes) = (new(gram), new(() => Array.ConvertAll(diagonal, square => Math.Sqrt(square / Math.Max(1, tokens)))));
    }

    /// <summary>Statistics that stay on a device until somebody asks for them.</summary>
    internal GramStatistics(long tokens, IDeviceGram device)
        : base(tokens)
    {
        (Columns, Device, Diagonal) = (device.Columns, device, device.Diagonal());
        (_gram, _magnitudes) = (new(device.ToHost), new(device.Magnitudes));
    }

    /// <summary>Input features.</summary>
    public int Columns { get; }

    /// <summary>Σ xᵀx, <c>[columns, columns]</c>; copied from the device at the first use where it stands there.</summary>
    public double[] Gram => _gram.Value;

    /// <summary>The diagonal of <see cref="Gram"/>.</summary>
    internal double[] Diagonal { get; }

    /// <summary>Where the device keeps the matrix; null: on the host alone.</summary>
    internal IDeviceGram? Device { get; }

    /// <summary>The layer, for messages.</summary>
    public string? Layer { get; init; }

    /// <summary>Told how long a method's steps take; null: nobody asks.</summary>
    internal PhaseTimes? Times { get; init; }

    /// <summary>The damping that a factorization needed, as a share of the mean diagonal, where it was more than was asked for.</summary>
    internal double? RaisedDamping { get; set; }

    /// <summary>Input features that were zero in every row.</summary>
    public int DeadInputs => Diagonal.Count(square => square == 0);

    /// <summary>Mean of |x| of each input feature; the root of the mean square where it was not collected.</summary>
    public double[] Magnitudes
    {
        get => field ?? _magnitudes.Value;
        init;
    }
}

/// <summary>A Gram matrix on a device.</summary>
internal interface IDeviceGram : IDisposable
{
    /// <summary>Input features.</summary>
    int Columns { get; }

    /// <summary>The diagonal, on the host.</summary>
    double[] Diagonal();

    /// <summary>Mean of |x| of each input feature.</summary>
    double[] Magnitudes();

    /// <summary>The whole matrix, on the host.</summary>
    double[] ToHost();
}

/// <summary>Collects <see cref="GramStatistics"/> batch by batch.</summary>
internal interface IGramCollector
{
    /// <summary>Adds the rows of x <c>[rows, columns]</c>.</summary>
    void Add(Tensor x);

    /// <summary>What was collected.</summary>
    GramStatistics Finish();
}

/// <summary>Collects with a backend's kernel, into double precision on the host.</summary>
internal sealed class GramAccumulator(int columns, IBackend backend, PhaseTimes? times = null) : IGramCollector
{
    // Rows multiplied at once: enough that the product runs at full speed, few enough that F32 sums stay exact to 1e-6 …
    private const int MostRows = 2048;

    // … and that the packed rows of a wide layer take 32 MB, but never so few that adding up outweighs multiplying.
    private const int PackedElements = 8 << 20;
    private const int FewestRows = 512;

    private readonly double[] _sum = new double[(long)columns * columns];
    private readonly double[] _magnitudes = new double[columns];
    private long _tokens;

    /// <summary>Adds the rows of x, F32 <c>[rows, columns]</c>.</summary>
    public void Add(Tensor x)
    {
        using PhaseTimes.Scope? scope = times?.In("hessian");
        int most = Math.Clamp(PackedElements / columns, FewestRows, MostRows);
        for (nint start = 0; start < x.Shape[0]; start += most)
        {
            Tensor part = x.Slice(start, nint.Min(most, x.Shape[0] - start));
            backend.Kernels.AddGram(part, _sum);
            AddMagnitudes(part);
        }

        _tokens += x.Shape[0];
    }

    public GramStatistics Finish()
    {
        using PhaseTimes.Scope? scope = times?.In("hessian");
        // Tiles of both triangles that stay in the cache together.
        const int tile = 64;
        for (int row = 0; row < columns; row += tile)
        {
            for (int column = row; column < columns; column += tile)
            {
                Mirror(row, column, Math.Min(tile, columns - row), Math.Min(tile, columns - column));
            }
        }

        return new(_tokens, columns, _sum) { Times = times, Magnitudes = Array.ConvertAll(_magnitudes, sum => sum / Math.Max(1, _tokens)) };
    }

    private void Mirror(int firstRow, int firstColumn, int rows, int width)
    {
        for (long row = firstRow; row < firstRow + rows; row++)
        {
            for (long column = Math.Max(firstColumn, row + 1); column < firstColumn + width; column++)
            {
                _sum[(row * columns) + column] = _sum[(column * columns) + row];
            }
        }
    }

    /// <summary>Adds |x| of each input feature: in F32 over the rows at hand, which are few, then in double precision.</summary>
    private void AddMagnitudes(Tensor x)
    {
        float[] sums = new float[columns];
        for (nint row = 0; row < x.Shape[0]; row++)
        {
            ReadOnlySpan<float> values = x.Slice(row, 1).HostSpan<float>();
            int i = 0;
            for (; i <= columns - Vector256<float>.Count; i += Vector256<float>.Count)
            {
                (Vector256.Create(sums.AsSpan(i)) + Vector256.Abs(Vector256.Create(values[i..]))).CopyTo(sums.AsSpan(i));
            }

            for (; i < columns; i++)
            {
                sums[i] += MathF.Abs(values[i]);
            }
        }

        for (int i = 0; i < columns; i++)
        {
            _magnitudes[i] += sums[i];
        }
    }
}
