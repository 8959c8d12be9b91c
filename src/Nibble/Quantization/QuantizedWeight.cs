using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// The one canonical form between methods, layouts and packings: logical codes, one per byte, row-major <c>[out, in]</c>, and
/// what turns them into numbers again. Transient: it is made, packed or written, and disposed, one tensor at a time.
/// </summary>
public abstract class QuantizedWeight : IDisposable
{
    /// <summary>Creates a weight over <paramref name="codes"/> (U8, <c>[out, in]</c>, on the host), which it then owns.</summary>
    protected QuantizedWeight(Tensor codes)
    {
        if (codes.DType != DType.U8 || codes.Shape.Rank != 2 || !codes.IsOnHost)
        {
            throw new ArgumentException($"quantized weight: codes must be a U8 matrix on the host, not {codes.DType} {codes.Shape}");
        }

        Codes = codes;
    }

    /// <summary>One code per byte, <c>[out, in]</c>.</summary>
    public Tensor Codes { get; }

    /// <summary>Output features: rows of the matrix.</summary>
    public nint Out => Codes.Shape[0];

    /// <summary>Input features: columns of the matrix, the contracted dimension.</summary>
    public nint In => Codes.Shape[1];

    /// <summary>What the weight is, without its numbers.</summary>
    public abstract WeightFacts Facts { get; }

    /// <summary>Bits of one code.</summary>
    public abstract int Bits { get; }

    /// <inheritdoc cref="WeightFacts.StoredBits"/>
    public long StoredBits => Facts.StoredBits;

    /// <summary>Writes the values of row <paramref name="row"/> to <paramref name="destination"/> (length <see cref="In"/>): the definition of what the codes mean.</summary>
    public abstract void DequantizeRow(nint row, Span<float> destination);

    /// <summary>All values as a new F32 tensor <c>[out, in]</c>.</summary>
    public Tensor Dequantize()
    {
        Tensor values = Tensor.OnHost(Codes.Shape, DType.F32);
        for (nint row = 0; row < Out; row++)
        {
            DequantizeRow(row, values.Slice(row, 1).HostSpan<float>());
        }

        GC.KeepAlive(this);
        return values;
    }

    /// <summary>The codes of one row. The span does not keep the weight: see <see cref="Tensor.HostSpan{T}"/>.</summary>
    public Span<byte> CodeRow(nint row) => Codes.Slice(row, 1).HostSpan<byte>();

    /// <summary>Frees the codes.</summary>
    public void Dispose()
    {
        Codes.Dispose();
        GC.SuppressFinalize(this);
    }
}
