using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>A new token's attention: <c>TokenCall</c> of <c>token.cu</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TokenCall
{
    public nint Query, Key, Value, Output, Keys, Values, Positions, Cosines, Sines, FirstKeys, Slot, Parts, Counters;
    public long QueryStride, KeyStride;
    public int Start, Heads, KvHeads, Capacity, Dim, Window;
    public float Scale;
    public int Unused;
}

/// <summary>One new token per row in one launch: rotation, cache, attention. Heads of up to 128 elements that eight divides.</summary>
internal sealed unsafe class CudaToken(CachingMemory memory)
{
    // Constants of token.cu, and the most rows of blocks that a launch has.
    private const int KeysOfBlock = 64, Threads = 128, MostHeads = 65535;
    private readonly CudaCounters _counters = memory.Counters(MostHeads);

    /// <summary>True for caches that the kernel reads.</summary>
    public static bool Fits(int dim) => dim % 8 == 0 && dim <= CudaKernelNames.FlashWidths[^1];

    /// <summary>Attends, unless the kernel can't; <paramref name="slot"/> is where the card keeps the token's place, or 0.</summary>
    public bool TryAttend(in AttentionArguments a, Tensor key, Tensor value, in RopeArguments? rope, nint slot)
    {
        int heads = (int)a.Query.Shape[1], kvHeads = (int)a.Keys.Shape[1], capacity = (int)a.Keys.Shape[2], dim = (int)a.Query.Shape[2];
        if (a.Length != 1 || a.Keys.DType is not (DType.BF16 or DType.U8) || a.Query.DType != DType.F32 || key.DType != DType.F32 || !Fits(dim) || (long)a.Batch * heads > MostHeads)
        {
            return false;
        }

        // A recorded step must fit every place of the cache; blocks beyond the token have nothing to do.
        int slots = slot == 0 ? a.Start + 1 : capacity, parts = (slots + KeysOfBlock - 1) / KeysOfBlock;
        using CudaStorage results = memory.Rent((nint)a.Batch * heads * parts * (2 + dim) * sizeof(float), "activations");
        TokenCall call = new()
        {
            Query = CudaStorage.AddressOf(a.Query), Key = CudaStorage.AddressOf(key), Value = CudaStorage.AddressOf(value), Output = CudaStorage.AddressOf(a.Output),
            Keys = CudaStorage.AddressOf(a.Keys), Values = CudaStorage.AddressOf(a.Values), FirstKeys = CudaStorage.AddressOf(a.FirstKey), Slot = slot,
            Positions = CudaStorage.AddressOf(rope?.Positions), Cosines = CudaStorage.AddressOf(rope?.Cos), Sines = CudaStorage.AddressOf(rope?.Sin),
            Parts = results.Address, Counters = _counters.Address, QueryStride = (long)heads * dim, KeyStride = (long)kvHeads * dim,
            Start = a.Start, Heads = heads, KvHeads = kvHeads, Capacity = capacity, Dim = dim, Window = a.Window, Scale = a.Scale,
        };
        memory.Device.Launch(
            CudaKernelNames.Of((a.Keys.DType == DType.U8 ? "attend_token_bytes_" : "attend_token_") + (dim <= 64 ? "64" : "128")), new LaunchShape(parts, Threads, a.Batch * heads, Overlaps: true), [KernelArgument.Structure(&call)]);
        return true;
    }
}
