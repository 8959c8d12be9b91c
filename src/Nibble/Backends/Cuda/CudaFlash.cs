using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>The shape of a call of attention in BF16: <c>FlashShape</c> of <c>flash.cu</c>, field by field; what follows is for cuDNN.</summary>
[StructLayout(LayoutKind.Sequential)]
internal record struct FlashShape
{
    public long QueryRow, QueryHead, QueryBatch, KeyRow, KeyHead, KeyBatch, OutRow, OutHead, OutBatch;
    public int Length, Start, Heads, KvHeads, Dim, Window, FirstOfQueries;
    public float Scale;
    public int Batch, HasFirsts;

    public FlashShape(in AttentionArguments a)
    {
        (Batch, Length, Start, Window, Scale) = (a.Batch, a.Length, a.Start, a.Window, a.Scale);
        (Heads, KvHeads, Dim) = ((int)a.Query.Shape[1], (int)a.Keys.Shape[1], (int)a.Keys.Shape[3]);
        (FirstOfQueries, HasFirsts) = (a.HasFirstKeyOfQueries ? 1 : 0, a.FirstKey is null ? 0 : 1);
        (QueryRow, QueryHead, QueryBatch) = ((long)Heads * Dim, Dim, (long)Length * Heads * Dim);
        (OutRow, OutHead, OutBatch) = (QueryRow, QueryHead, QueryBatch);
        (KeyRow, KeyHead, KeyBatch) = (Dim, a.Keys.Shape[2] * Dim, KvHeads * a.Keys.Shape[2] * Dim);
    }

    public FlashShape(in RowAttentionArguments a)
    {
        (Batch, Length, Start, Window, Scale) = (a.Batch, a.Length, 0, a.Window, a.Scale);
        (Heads, KvHeads, Dim) = (a.Heads, a.KvHeads, a.HeadDim);
        (FirstOfQueries, HasFirsts) = (a.FirstKey is null ? 0 : 1, a.FirstKey is null ? 0 : 1);
        (QueryRow, QueryHead, QueryBatch) = (a.Query.Shape.Columns, Dim, Length * a.Query.Shape.Columns);
        (KeyRow, KeyHead, KeyBatch) = (a.Keys.Shape.Columns, Dim, Length * a.Keys.Shape.Columns);
        (OutRow, OutHead, OutBatch) = ((long)Heads * Dim, Dim, (long)Length * Heads * Dim);
    }
}

/// <summary>
/// Attention in BF16 on tensor cores, and its gradient: by cuDNN where it is here and takes the shape, else by the own kernels. A shape
/// goes the same way forward and backward, each time.
/// </summary>
internal static unsafe class CudaFlash
{
    // Forward a block owns two tiles of queries.
    private const int Rows = 64, ForwardRows = 128, Threads = 128;

    /// <summary>The forward kernel.</summary>
    public static void Forward(CachingMemory memory, in AttentionArguments a) =>
        Forward(memory, new FlashShape(a), Addresses(a), a.FirstKey);

    /// <summary>The same for shapes that may not come again, for which cuDNN should not make a plan.</summary>
    public static void ForwardOnce(CachingMemory memory, in AttentionArguments a) =>
        Forward(memory, new FlashShape(a), Addresses(a), a.FirstKey, planned: false);

    /// <summary>The same over rows.</summary>
    public static void Forward(CachingMemory memory, in RowAttentionArguments a) =>
        Forward(memory, new FlashShape(a), Addresses(a), a.FirstKey);

    /// <summary>The gradient, written to dQuery, dKeys and dValues, or added to what they hold.</summary>
    public static void Backward(CachingMemory memory, in AttentionArguments a, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues, bool add)
    {
        AttentionAddresses addresses = Addresses(a) with { DOutput = At(dOutput), DQuery = At(dQuery), DKeys = At(dKeys), DValues = At(dValues) };
        FlashShape shape = new(a);
        if (!add || memory.Device.Attention?.Workspace(shape, backward: true) is null)
        {
            Backward(memory, shape, addresses, a.FirstKey, add);
            return;
        }

        // cuDNN writes, and of keys and values only what is filled: places beyond add nothing.
        using CudaStorage query = memory.Rent(dQuery.ByteLength, "gradients"), keys = memory.Rent(dKeys.ByteLength, "gradients"), values = memory.Rent(dValues.ByteLength, "gradients");
        memory.Device.Clear(keys.Address, keys.ByteLength);
        memory.Device.Clear(values.Address, values.ByteLength);
        Backward(memory, shape, addresses with { DQuery = query.Address, DKeys = keys.Address, DValues = values.Address }, a.FirstKey, add: false);
        foreach ((CudaStorage part, Tensor sum) in new[] { (query, dQuery), (keys, dKeys), (values, dValues) })
        {
            memory.Device.Launch(CudaKernelNames.Of("add_bb"), CudaGrid.Eights(sum.Shape.Count), [part.Address, sum, sum.Shape.Count]);
        }
    }

    /// <summary>The gradient over rows, written to where the arguments' gradients stand.</summary>
    public static void Backward(CachingMemory memory, in RowAttentionArguments a, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
        AttentionAddresses addresses = Addresses(a) with
        {
            DOutput = At(dOutput), DQuery = Column(dQuery, a.QueryColumn), DKeys = Column(dKeys, a.KeyColumn), DValues = Column(dValues, a.ValueColumn),
        };
        Backward(memory, new FlashShape(a), addresses, a.FirstKey, add: false);
    }

    private static void Forward(CachingMemory memory, FlashShape shape, in AttentionAddresses a, Tensor? firsts, bool planned = true)
    {
        int width = Width(shape);
        if (shape.Length == 0 || shape.Batch == 0)
        {
            return;
        }

        if (planned && memory.Device.Attention?.Workspace(shape, backward: false) is { } bytes)
        {
            // Where no gradient is wanted the sums still need a place.
            using CudaStorage workspace = memory.Rent(bytes, "attention"), sums = memory.Rent(a.Sums != 0 ? 0 : (nint)shape.Batch * shape.Length * shape.Heads * sizeof(float), "attention");
            memory.Device.Attend(shape, a.Sums != 0 ? a : a with { Sums = sums.Address }, backward: false, workspace.Address);
            return;
        }

        memory.Device.Launch(
            CudaKernelNames.Flash("flash_forward", width),
            new LaunchShape(Tiles(shape.Length, ForwardRows), Threads, shape.Batch * shape.Heads, 4 * Rows * width * sizeof(ushort)),
            [KernelArgument.Structure(&shape), a.Query, a.Keys, a.Values, a.Output, a.Sums, firsts]);
    }

    private static void Backward(CachingMemory memory, FlashShape shape, in AttentionAddresses a, Tensor? firsts, bool add)
    {
        int width = Width(shape), bytes = 6 * Rows * width * sizeof(ushort), adds = add ? 1 : 0;
        if (shape.Length == 0 || shape.Batch == 0)
        {
            return;
        }

        if (a.Sums == 0)
        {
            throw new InvalidOperationException("attention in BF16 needs the sums of its forward pass");
        }

        if (memory.Device.Attention?.Workspace(shape, backward: true) is { } scratch)
        {
            using CudaStorage workspace = memory.Rent(scratch, "attention");
            memory.Device.Attend(shape, a, backward: true, workspace.Address);
            return;
        }

        KernelArgument s = KernelArgument.Structure(&shape);
        using CudaStorage deltas = memory.Rent((nint)shape.Batch * shape.Length * shape.Heads * sizeof(float), "gradients");
        memory.Device.Launch(
            CudaKernelNames.Flash("flash_gradient_query", width),
            new LaunchShape(Tiles(shape.Length), Threads, shape.Batch * shape.Heads, bytes),
            [s, a.Query, a.Keys, a.Values, a.Output, a.DOutput, a.Sums, deltas.Address, a.DQuery, firsts, adds]);
        memory.Device.Launch(
            CudaKernelNames.Flash("flash_gradient_keys", width),
            new LaunchShape(Tiles(shape.Start + shape.Length), Threads, shape.Batch * shape.KvHeads, bytes),
            [s, a.Query, a.Keys, a.Values, a.DOutput, a.Sums, deltas.Address, a.DKeys, a.DValues, firsts, adds]);
    }

    private static AttentionAddresses Addresses(in AttentionArguments a) => new(At(a.Query), At(a.Keys), At(a.Values), At(a.Output), At(a.LogSums));

    private static AttentionAddresses Addresses(in RowAttentionArguments a) =>
        new(Column(a.Query, a.QueryColumn), Column(a.Keys, a.KeyColumn), Column(a.Values, a.ValueColumn), At(a.Output), At(a.LogSums));

    private static nint At(Tensor? tensor) => CudaStorage.AddressOf(tensor);

    private static nint Column(Tensor tensor, nint column) => At(tensor) + (column * sizeof(ushort));

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
