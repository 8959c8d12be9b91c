using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;

namespace Nibble.Backends.Cuda;

/// <summary>Products of up to 16 rows on tensor cores in BF16 with sums in F32, straight from the packed weight, and weights as matrices of BF16.</summary>
internal sealed unsafe class TensorProducts(CachingMemory memory)
{
    // Constants of tensor.cuh.
    private const int UnitRows = 16, UnitColumns = 128, Warps = 8, Threads = 256, ManyRows = 16, ManyStages = 3, ManyStride = 320;

    // Blocks that a card runs at once, about; a constant, so that sums keep their order on any card.
    private const int Blocks = 264;
    private const int FewRows = 8, MostShared = 200 << 10, MostCounters = 1 << 14;
    private CudaStorage? _counters;

    /// <summary>y (+)= x·Wᵀ + bias, unless the weight or the number of rows has no kernel here.</summary>
    public bool TryMultiply(CudaPacking weight, in CudaProduct call)
    {
        if (weight.TensorFormat is not { } format || call.Rows > ManyRows)
        {
            return false;
        }

        int units = (int)((weight.In + UnitColumns - 1) / UnitColumns), table = TableBytes(format);
        nint tiles = ((call.First + call.Count + UnitRows - 1) / UnitRows) - (call.First / UnitRows);
        nint shared = table + (call.Rows * ((units * UnitColumns * 2) + 64)) + (units * 4 * FewRows * sizeof(float));
        if (call.Rows <= FewRows && shared <= MostShared)
        {
            fixed (PackedArgument* packed = &weight.Argument)
            {
                memory.Device.Launch(
                    CudaKernelNames.Tensor("few", format),
                    new LaunchShape(nint.Min(tiles, 2 * memory.Device.Facts.Multiprocessors), Threads, 1, (int)shared),
                    [KernelArgument.Structure(packed), call.X, (int)call.Rows, call.Bias, call.Y, call.YStride, call.First, call.Count, call.Add ? 1 : 0]);
            }

            return true;
        }

        nint blocks = (tiles + Warps - 1) / Warps;
        if (blocks > MostCounters)
        {
            return false;
        }

        MultiplyMany(weight, call, format, units, blocks, table);
        return true;
    }

    /// <summary>Writes rows as a matrix of BF16, unless the weight has no kernel for it.</summary>
    public bool TryExpand(CudaPacking weight, nint first, nint count, nint matrix)
    {
        if (weight.TensorFormat is not { } format || weight.In % 8 != 0 || weight is DenseCudaPacking)
        {
            return false;
        }

        nint tiles = ((first + count + UnitRows - 1) / UnitRows) - (first / UnitRows);
        fixed (PackedArgument* packed = &weight.Argument)
        {
            memory.Device.Launch(
                CudaKernelNames.Tensor("expand", format), new LaunchShape(tiles, Threads, 2), [KernelArgument.Structure(packed), first, count, matrix]);
        }

        return true;
    }

    // x becomes BF16 once; blocks share the columns where features alone are too few to fill a card.
    private void MultiplyMany(CudaPacking weight, in CudaProduct call, string format, int units, nint blocks, int table)
    {
        int splits = Math.Clamp((int)((Blocks + blocks - 1) / blocks), 1, Math.Max(1, units / 3));
        nint pieces = (nint)units * (UnitColumns / 8) * ManyRows;
        using CudaStorage half = memory.Rent((nint)units * UnitColumns * ManyRows * 2, "activations");
        using CudaStorage sums = memory.Rent((nint)units * 4 * ManyRows * sizeof(float), "activations");
        using CudaStorage parts = memory.Rent(blocks * splits * (ManyRows / 8) * 4 * Threads * sizeof(float), "activations");
        memory.Device.Launch(
            CudaKernelNames.Of("half_rows"), CudaGrid.Elements(pieces), [call.X, weight.In, (int)call.Rows, ManyRows, half.Address, sums.Address]);
        fixed (PackedArgument* packed = &weight.Argument)
        {
            memory.Device.Launch(
                CudaKernelNames.Tensor("many", format),
                new LaunchShape(blocks, Threads, splits, table + (ManyStages * ManyRows * ManyStride)),
                [
                    KernelArgument.Structure(packed), half.Address, sums.Address, (int)call.Rows, call.Bias, call.Y, call.YStride, call.First, call.Count,
                    call.Add ? 1 : 0, parts.Address, Counters(),
                ]);
        }
    }

    // How many parts of a block's features are done; the kernel leaves zeros.
    private nint Counters()
    {
        if (_counters is null)
        {
            _counters = memory.Rent(MostCounters * sizeof(uint), "counters");
            memory.Device.Clear(_counters.Address, _counters.ByteLength);
        }

        return _counters.Address;
    }

    // A pair of codes has an entry for each lane: 2^(2·bits) entries of 128 bytes; codes of 8 bits need none.
    private static int TableBytes(string format) => format.Split('_')[0] switch
    {
        "codebook4" or "affine4" => 256 * 128,
        "affine3" => 64 * 128,
        "affine2" => 16 * 128,
        _ => 0,
    };
}
