using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Nibble.Backends;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Quantization.LowRank;

/// <summary>Two thin matrices whose product is added to a quantized one, BF16 on the host, as they are stored.</summary>
/// <param name="A"><c>[rank, in]</c>.</param>
/// <param name="B"><c>[out, rank]</c>.</param>
internal sealed record LowRankPair(Tensor A, Tensor B) : IDisposable
{
    /// <summary>Columns of B.</summary>
    public int Rank => (int)A.Shape[0];

    /// <summary>Bytes as stored.</summary>
    public long ByteLength => BytesOf(A.Shape[1], B.Shape[0], Rank);

    /// <summary>Bytes of a pair of this rank beside a matrix.</summary>
    public static long BytesOf(nint columns, nint rows, int rank) => (long)rank * (columns + rows) * DType.BF16.Size();

    /// <summary>Rounds two F32 arrays to what is stored.</summary>
    public static LowRankPair Of(float[] a, float[] b, int rank)
    {
        using Tensor left = Tensor.From<float>(new Shape(rank, a.Length / rank), DType.F32, a), right = Tensor.From<float>(new Shape(b.Length / rank, rank), DType.F32, b);
        return new LowRankPair(left.To(DType.BF16), right.To(DType.BF16));
    }

    /// <summary>The packed form.</summary>
    public RepairTerm Pack(IBackend backend) => new(backend.Prepare(A), backend.Prepare(B));

    /// <summary>matrix += B·A, sums in double precision.</summary>
    public void AddTo(Tensor matrix) => Add(matrix, 1);

    /// <summary>matrix −= B·A.</summary>
    public void TakeFrom(Tensor matrix) => Add(matrix, -1);

    /// <summary>A digest of a quantized weight with this pair beside it.</summary>
    public string Digest(string weight)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(System.Text.Encoding.UTF8.GetBytes(weight));
        hash.AppendData(MemoryMarshal.AsBytes(A.HostSpan<ushort>()));
        hash.AppendData(MemoryMarshal.AsBytes(B.HostSpan<ushort>()));
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    public void Dispose()
    {
        A.Dispose();
        B.Dispose();
    }

    private unsafe void Add(Tensor matrix, double sign)
    {
        using Tensor a = A.To(DType.F32), b = B.To(DType.F32);
        int rank = Rank, columns = (int)matrix.Shape[1];
        float* left = (float*)b.HostPointer, right = (float*)a.HostPointer, values = (float*)matrix.HostPointer;
        Methods.Spread.Over(matrix.Shape[0], columns, (first, last) =>
        {
            double[] sums = new double[columns];
            for (nint row = first; row < last; row++)
            {
                Array.Clear(sums);
                for (int r = 0; r < rank; r++)
                {
                    double factor = sign * left[(row * rank) + r];
                    for (int k = 0; k < columns; k++)
                    {
                        sums[k] += factor * right[((nint)r * columns) + k];
                    }
                }

                for (int k = 0; k < columns; k++)
                {
                    values[(row * columns) + k] = (float)(values[(row * columns) + k] + sums[k]);
                }
            }
        });
    }
}
