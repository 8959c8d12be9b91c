using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>The shape of a call of attention in BF16: <c>FlashShape</c> of <c>flash.cu</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FlashShape
{
    public long QueryRow, QueryHead, QueryBatch, KeyRow, KeyHead, KeyBatch;
    public int Length, Start, Heads, KvHeads, Dim, Window, FirstOfQueries;
    public float Scale;

    public FlashShape(in AttentionArguments a)
    {
        (Length, Start, Window, Scale) = (a.Length, a.Start, a.Window, a.Scale);
        (Heads, KvHeads, Dim) = ((int)a.Query.Shape[1], (int)a.Keys.Shape[1], (int)a.Keys.Shape[3]);
        FirstOfQueries = a.HasFirstKeyOfQueries ? 1 : 0;
        (QueryRow, QueryHead, QueryBatch) = ((long)Heads * Dim, Dim, (long)Length * Heads * Dim);
        (KeyRow, KeyHead, KeyBatch) = (Dim, a.Keys.Shape[2] * Dim, KvHeads * a.Keys.Shape[2] * Dim);
    }
}

/// <summary>Attention in BF16 on tensor cores, and its gradient.</summary>
internal static unsafe class CudaFlash
{
    // Forward a block owns two tiles of queries.
    private const int Rows = 64, ForwardRows = 128, Threads = 128;

    /// <summary>The forward kernel.</summary>
    public static void Forward(ICudaDevice device, in AttentionArguments a)
    {
        FlashShape shape = new(a);
        int width = Width(shape);
        if (shape.Length > 0 && a.Batch > 0)
        {
            device.Launch(
                CudaKernelNames.Flash("flash_forward", width),
                new LaunchShape(Tiles(shape.Length, ForwardRows), Threads, a.Batch * shape.Heads, 4 * Rows * width * sizeof(ushort)),
                [KernelArgument.Structure(&shape), a.Query, a.Keys, a.Values, a.Output, a.LogSums, a.FirstKey]);
        }
    }

    /// <summary>The gradient, written to dQuery, dKeys and dValues, or added to what they hold.</summary>
    public static void Backward(CachingMemory memory, in AttentionArguments a, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues, bool add)
    {
        FlashShape shape = new(a);
        int width = Width(shape), bytes = 6 * Rows * width * sizeof(ushort), adds = add ? 1 : 0;
        if (shape.Length == 0 || a.Batch == 0)
        {
            return;
        }

        Tensor sums = a.LogSums ?? throw new InvalidOperationException("attention in BF16 needs the sums of its forward pass");
        KernelArgument s = KernelArgument.Structure(&shape);
        using CudaStorage deltas = memory.Rent(sums.ByteLength, "gradients");
        memory.Device.Launch(
            CudaKernelNames.Flash("flash_gradient_query", width),
            new LaunchShape(Tiles(shape.Length), Threads, a.Batch * shape.Heads, bytes),
            [s, a.Query, a.Keys, a.Values, a.Output, dOutput, sums, deltas.Address, dQuery, a.FirstKey, adds]);
        memory.Device.Launch(
            CudaKernelNames.Flash("flash_gradient_keys", width),
            new LaunchShape(Tiles(shape.Start + shape.Length), Threads, a.Batch * shape.KvHeads, bytes),
            [s, a.Query, a.Keys, a.Values, dOutput, sums, deltas.Address, dKeys, dValues, a.FirstKey, adds]);
    }

    private static long Tiles(int rows, int tile = Rows) => (rows + tile - 1) / tile;

    private static int Width(in FlashShape shape)
    {
        int dim = shape.Dim, width = CudaKernelNames.FlashWidths.FirstOrDefault(width => width >= dim);
        if (width == 0)
        {
            Throw.Usage($"heads of {dim} elements are too wide for attention in BF16", $"at most {CudaKernelNames.FlashWidths[^1]} are supported", "leave --activations out");
        }

        return width;
    }
}
