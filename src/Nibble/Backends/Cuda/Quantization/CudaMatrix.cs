using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Quantization;

/// <summary>A matrix on its way through a method on the card: its values in F32, its codes, and what went wrong.</summary>
internal sealed unsafe class CudaMatrix : IDisposable
{
    private readonly CachingMemory _memory;
    private readonly List<CudaStorage> _rented = [];
    private readonly CudaStorage _flags;

    private CudaMatrix(CachingMemory memory, nint rows, nint columns)
    {
        (_memory, Rows, Columns) = (memory, rows, columns);
        try
        {
            Dense = Rent(Count * sizeof(float));
            Codes = Rent(Count);
            _flags = Rent(2 * sizeof(uint));
            memory.Device.Clear(_flags.Address, _flags.ByteLength);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public nint Rows { get; }

    public nint Columns { get; }

    public nint Count => Rows * Columns;

    /// <summary>The dense values, F32 <c>[rows, columns]</c>.</summary>
    public CudaStorage Dense { get; }

    /// <summary>One code a byte, in the same order.</summary>
    public CudaStorage Codes { get; }

    /// <summary>Two words that kernels set: a value that is not finite, a scale that does not fit.</summary>
    public nint Flags => _flags.Address;

    /// <summary>Copies a matrix of the host to the card.</summary>
    public static CudaMatrix Upload(CachingMemory memory, Tensor weight)
    {
        using CudaStorage stored = memory.Rent(weight.ByteLength, "quantization");
        memory.Upload(weight.HostPointer, stored);
        return Of(memory, stored.Address, weight.DType, weight.Shape[0], weight.Shape[1]);
    }

    /// <summary>A matrix whose values stand on the card in any dtype.</summary>
    public static CudaMatrix Of(CachingMemory memory, nint values, DType dtype, nint rows, nint columns)
    {
        CudaMatrix matrix = new(memory, rows, columns);
        memory.Device.Launch(CudaKernelNames.Of("widen"), CudaGrid.Elements(matrix.Count), [values, (int)NumberOf(dtype), matrix.Dense.Address, matrix.Count, matrix.Flags]);
        return matrix;
    }

    /// <summary>A matrix whose dense values nobody needs.</summary>
    public static CudaMatrix Empty(CachingMemory memory, nint rows, nint columns) => new(memory, rows, columns);

    /// <summary>Memory that is free again with the matrix.</summary>
    public CudaStorage Rent(nint bytes)
    {
        CudaStorage storage = _memory.Rent(bytes, "quantization");
        _rented.Add(storage);
        return storage;
    }

    /// <summary>Host values on the card for as long as the matrix lives.</summary>
    public CudaStorage Put<T>(ReadOnlySpan<T> values)
        where T : unmanaged
    {
        CudaStorage storage = _memory.Upload(values, "quantization");
        _rented.Add(storage);
        return storage;
    }

    /// <summary>Room for a number for each group.</summary>
    public CudaStorage Floats(nint count) => Rent(count * sizeof(float));

    public float[] Read(CudaStorage floats) => _memory.Download<float>(floats);

    /// <summary>The codes on the host.</summary>
    public Tensor ReadCodes()
    {
        Tensor codes = Tensor.OnHost(new Shape(Rows, Columns), DType.U8);
        if (Count > 0)
        {
            _memory.Device.Download(Codes.Address, codes.HostPointer, Count);
        }

        return codes;
    }

    /// <summary>True if a kernel met a value that is not finite or a scale that does not fit its dtype.</summary>
    public bool Failed() => Array.Exists(_memory.Download<uint>(_flags), flag => flag != 0);

    public void Launch(string kernel, LaunchShape shape, params ReadOnlySpan<KernelArgument> arguments) => _memory.Device.Launch(CudaKernelNames.Of(kernel), shape, arguments);

    /// <summary>The error of values on the card, in the processor's order of sums.</summary>
    public WeightError Error(nint values)
    {
        using CudaStorage results = _memory.Rent(3 * Rows * sizeof(double), "quantization");
        Launch("weight_error", new LaunchShape((Rows + 31) / 32, 32), Dense.Address, values, results.Address, Rows, Columns);
        double[] rows = _memory.Download<double>(results);
        int count = (int)Rows;
        double error = rows[..count].Sum(), norm = rows[count..(2 * count)].Sum();
        return new WeightError(error == 0 ? 0 : Math.Sqrt(error / norm), rows[(2 * count)..].DefaultIfEmpty().Max(), norm);
    }

    /// <summary>Takes memory out of the matrix: the caller gives it back.</summary>
    public CudaStorage Take(CudaStorage storage)
    {
        _rented.Remove(storage);
        return storage;
    }

    public void Dispose() => _rented.ForEach(storage => storage.Dispose());

    /// <summary>How kernels know a dtype.</summary>
    public static CudaNumber NumberOf(DType dtype) => dtype switch
    {
        DType.F16 => CudaNumber.F16,
        DType.BF16 => CudaNumber.BF16,
        _ => CudaNumber.F32,
    };
}
