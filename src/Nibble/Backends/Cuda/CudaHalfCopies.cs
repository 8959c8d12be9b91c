using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;

namespace Nibble.Backends.Cuda;

/// <summary>
/// Trained F32 matrices as BF16, for the products of a pass: rounded once, in one launch, where each product would round them again. Matrices
/// of odd heights have room up to whole lines behind them, filled with zeros.
/// </summary>
internal sealed class CudaHalfCopies : IDisposable
{
    private const nint RowAlignment = 64;
    private readonly CachingMemory _memory;
    private readonly CudaHalfProducts _products;
    private readonly Dictionary<CudaPacking, (CudaStorage Values, nint Rows)> _copies = [];
    private readonly CudaStorage? _entries, _parts;
    private readonly int _count;

    public CudaHalfCopies(CachingMemory memory, CudaHalfProducts products, IEnumerable<IPackedWeight> weights)
    {
        (_memory, _products) = (memory, products);
        List<CopyEntry> entries = [];
        List<PartEntry> parts = [];
        try
        {
            foreach (DenseCudaPacking weight in weights.OfType<DenseCudaPacking>().Where(weight => weight.Values is not null && weight.Out > 0 && weight.In > 0))
            {
                nint rows = weight.Out < RowAlignment ? weight.Out : (weight.Out + RowAlignment - 1) / RowAlignment * RowAlignment;
                CudaStorage values = memory.Rent(rows * weight.In * sizeof(ushort), "weights in BF16");
                _copies.Add(weight, (values, rows));
                memory.Device.Clear(values.Address, values.ByteLength);
                long count = weight.Out * weight.In;
                for (long begin = 0; begin < count; begin += PartEntry.Elements)
                {
                    parts.Add(new PartEntry(begin, entries.Count));
                }

                entries.Add(new CopyEntry(weight.Matrix(Tensors.DType.F32), values.Address, count));
            }

            _count = parts.Count;
            if (_count > 0)
            {
                _entries = memory.Upload<CopyEntry>(CollectionsMarshal.AsSpan(entries), "weights in BF16");
                _parts = memory.Upload<PartEntry>(CollectionsMarshal.AsSpan(parts), "weights in BF16");
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Rounds all, and gives them to the products until <see cref="End"/>.</summary>
    public void Begin()
    {
        if (_count > 0)
        {
            _memory.Device.Launch(CudaKernelNames.Of("copy_many_fb"), new LaunchShape(_count, 256), [_entries!.Address, _parts!.Address]);
        }

        _products.Copies = this;
    }

    /// <summary>From now on the matrices may change.</summary>
    public void End() => _products.Copies = null;

    /// <summary>The copy of a matrix, and how many rows it has with those of zeros.</summary>
    public bool TryFind(CudaPacking weight, out nint matrix, out nint rows)
    {
        bool found = _copies.TryGetValue(weight, out (CudaStorage Values, nint Rows) copy);
        (matrix, rows) = found ? (copy.Values.Address, copy.Rows) : (0, 0);
        return found;
    }

    public void Dispose()
    {
        End();
        foreach ((CudaStorage values, _) in _copies.Values)
        {
            values.Dispose();
        }

        _copies.Clear();
        _entries?.Dispose();
        _parts?.Dispose();
    }

    // CopyEntry of half.cu.
    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct CopyEntry(nint Source, nint Target, long Count);
}
