using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>
/// Steps of Muon: all matrices of one shape, turned to their shorter height, go through the products of <see cref="NewtonSchulz"/> together,
/// as one batch of cuBLASLt; what comes before and after is one launch over all of them.
/// </summary>
internal sealed class CudaMuon(CachingMemory memory, DType compute)
{
    // Of one matrix after the other; a model's blocks go through in parts of this size.
    private const long MostElements = 48 << 20;
    private readonly int _size = compute.Size();

    /// <summary>One step of all matrices.</summary>
    public void Step(ReadOnlySpan<MuonArguments> all)
    {
        List<MuonEntry> entries = [];
        foreach (MuonArguments arguments in all)
        {
            for (int i = 0; i < arguments.Matrices && arguments.Shape.Count > 0; i++)
            {
                entries.Add(new MuonEntry(arguments, i));
            }
        }

        foreach (IGrouping<(int, int), MuonEntry> shape in entries.GroupBy(entry => (entry.Height, entry.Width)))
        {
            (int height, int width) = shape.Key;
            foreach (MuonEntry[] batch in shape.Chunk((int)Math.Max(1, MostElements / ((long)height * width))))
            {
                Step(batch, height, width);
            }
        }
    }

    private void Step(MuonEntry[] batch, int height, int width)
    {
        long elements = (long)height * width;
        using CudaStorage x = Rent(batch.Length * elements), other = Rent(batch.Length * elements), gram = Rent((long)batch.Length * height * height), polynomial = Rent((long)batch.Length * height * height);
        List<PartEntry> parts = [];
        for (int i = 0; i < batch.Length; i++)
        {
            batch[i].FirstSum = parts.Count;
            batch[i].Place = (nint)(i * elements);
            for (long begin = 0; begin < elements; begin += PartEntry.Elements)
            {
                parts.Add(new PartEntry(begin, i));
            }
        }

        int type = (int)(compute == DType.BF16 ? CudaNumber.BF16 : CudaNumber.F32);
        using CudaStorage table = memory.Upload<MuonEntry>(batch, "optimizer"), places = memory.Upload<PartEntry>(CollectionsMarshal.AsSpan(parts), "optimizer");
        using CudaStorage sums = memory.Rent((nint)parts.Count * sizeof(double), "optimizer");
        LaunchShape launch = new(parts.Count, 256);
        memory.Device.Launch(CudaKernelNames.Of("muon_velocity"), launch, [table.Address, places.Address, sums.Address]);
        memory.Device.Launch(CudaKernelNames.Of("muon_start"), launch, [table.Address, places.Address, sums.Address, x.Address, type, NewtonSchulz.Epsilon]);
        (nint now, nint next) = (x.Address, other.Address);
        for (int step = 0; step < NewtonSchulz.Steps; step++)
        {
            // Matrices in row order are their transposes to cuBLAS: X is [width, height] there; what it is multiplied with is symmetric.
            Multiply(batch.Length, Call(now, now, gram.Address, (height, height, width), (width, width), turned: true));
            Multiply(batch.Length, Call(gram.Address, gram.Address, polynomial.Address, (height, height, height), (height, height)) with { Factors = (NewtonSchulz.C, NewtonSchulz.B), C = gram.Address });
            Multiply(batch.Length, Call(now, polynomial.Address, next, (width, height, height), (width, height)) with { Factors = (1, NewtonSchulz.A), C = now });
            (now, next) = (next, now);
        }

        memory.Device.Launch(CudaKernelNames.Of("muon_finish"), launch, [table.Address, places.Address, now, type]);
    }

    private CudaStorage Rent(long elements) => memory.Rent((nint)elements * _size, "optimizer");

    private GemmCall Call(nint a, nint b, nint d, (long M, long N, long K) size, (long A, long B) strides, bool turned = false) =>
        new(a, b, d, 0, size.M, size.N, size.K, turned, false, strides.A, strides.B, size.M, compute, false, compute)
        {
            StepA = size.M * size.K, StepB = size.K * size.N, StepD = size.M * size.N,
        };

    private void Multiply(int count, GemmCall call) => memory.Device.Multiply(call with { Count = count });

    // MuonEntry of optimizer.cu.
    [StructLayout(LayoutKind.Sequential)]
    private struct MuonEntry
    {
        public nint Values, Gradient, Velocity, Place;
        public int Rows, Columns, FirstSum, Unused;
        public float Scale, Momentum, Keep, Step;

        public MuonEntry(in MuonArguments a, int matrix)
        {
            (nint rows, nint columns) = (a.Shape[0] / a.Matrices, a.Shape[1]);
            nint offset = matrix * rows * columns * sizeof(float);
            (Values, Gradient, Velocity) = (CudaStorage.AddressOf(a.Values) + offset, CudaStorage.AddressOf(a.Gradient) + offset, CudaStorage.AddressOf(a.Velocity) + offset);
            (Rows, Columns, Place, FirstSum, Unused) = (checked((int)rows), checked((int)columns), 0, 0, 0);
            (Scale, Momentum, Keep, Step) = (a.GradientScale, a.Momentum, a.Keep, a.StepOf(rows, columns));
        }

        public readonly int Height => Math.Min(Rows, Columns);

        public readonly int Width => Math.Max(Rows, Columns);
    }
}
