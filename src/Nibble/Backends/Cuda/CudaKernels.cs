using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>The shape of a call of attention: <c>AttentionShape</c> of <c>attention.cu</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct AttentionShape
{
    public int Length, Start, Heads, KvHeads, Capacity, Dim, Window;
    public float Scale;
    public int FirstOfQueries;

    public AttentionShape(in AttentionArguments a)
    {
        (Length, Start, Window, Scale) = (a.Length, a.Start, a.Window, a.Scale);
        (Heads, KvHeads) = ((int)a.Query.Shape[1], (int)a.Keys.Shape[1]);
        FirstOfQueries = a.HasFirstKeyOfQueries ? 1 : 0;
        (Capacity, Dim) = ((int)a.Keys.Shape[2], (int)a.Keys.Shape[3]);
    }

    /// <summary>Rows of a tile of queries (or keys), and keys (or queries) of the tile that goes by: constants of <c>attention.cu</c>.</summary>
    public const int TileRows = 16, TileKeys = 32, Threads = 128;

    /// <summary>The variant: elements of a head's row that a lane owns.</summary>
    public readonly int Dims()
    {
        int dim = Dim;
        int dims = CudaKernelNames.AttentionDims.FirstOrDefault(d => 32 * d >= dim);
        if (dims == 0)
        {
            Throw.Usage($"heads of {Dim} elements are too wide for the attention kernels of cuda", "at most 256 are supported", "use --device cpu");
        }

        return dims;
    }
}

/// <summary>The forward kernels on a card.</summary>
internal sealed unsafe partial class CudaKernels(CachingMemory memory, CudaProducts products, CudaHalfProducts half) : IKernels
{
    private const int VocabularyBlock = 8192;
    private const int RowBlock = 1024;
    private const int LikelihoodStateBytes = 24;

    // Keys of a block, and threads: constants of attention.cu.
    private const int TokenKeys = 64, TokenThreads = 128;

    /// <summary>While steps of one token are recorded: where the card keeps the slot of the step's token. Otherwise 0.</summary>
    public nint Slot { get; set; }

    /// <summary>Set where a call that was queued while steps are recorded holds the token's place itself: the recording would repeat it.</summary>
    public bool HoldsPlace { get; set; }

    public void MatMul(Tensor x, IPackedWeight w, Tensor? bias, Tensor y) => Multiply(x, w, bias, y, add: false);

    public void MatMulScaled(Tensor x, IPackedWeight w, float factor, Tensor y)
    {
        if (CudaHalfProducts.Takes(x, y) && half.TryMultiplyScaled((CudaPacking)w, x, factor, y))
        {
            return;
        }

        MatMul(x, w, null, y);
        Scale(y, factor);
    }

    public void MatMulAdd(Tensor x, IPackedWeight w, Tensor y) => Multiply(x, w, null, y, add: true);

    public void MatMulAdd(Tensor x, IPackedWeight w, Tensor? bias, Tensor y) => Multiply(x, w, bias, y, add: true);

    public void Gather(IPackedWeight table, Tensor ids, Tensor y) =>
        products.ReadRows((CudaPacking)table, At(ids), 0, ids.Shape.Count, At(y), DType.F32);

    public void GatherSome(IPackedWeight table, Tensor ids, Tensor y) => Gather(table, ids, y);

    public void ScaleColumns(Tensor x, Tensor factor, Tensor? shift) =>
        Elements("scale_columns", x, [x, factor, shift, x.Shape.Columns, x.Shape.Count]);

    public void LayerNorm(Tensor x, Tensor weight, Tensor? bias, float epsilon, Tensor y) => Norm(x, weight, bias, centered: 1, epsilon, y);

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor y) => Norm(x, weight, null, centered: 0, epsilon, y);

    public void Rope(Tensor x, Tensor positions, Tensor cos, Tensor sin) => Rope(memory.Device, x, positions, cos, sin, 1);

    public void AppendToCache(Tensor x, Tensor cache, int start)
    {
        if (cache.DType == DType.U8)
        {
            AppendBytes(x, cache, start);
        }
        else
        {
            Append(memory.Device, "append_to_cache", x, cache, start, Slot);
        }
    }

    public void Attention(in AttentionArguments arguments)
    {
        if (arguments.Keys.DType == DType.U8)
        {
            using Tensor keys = Widen(arguments.Keys, arguments.Start + arguments.Length), values = Widen(arguments.Values, arguments.Start + arguments.Length);
            AttendHalf(arguments with { Keys = keys, Values = values });
            return;
        }

        if (arguments.Keys.DType == DType.BF16)
        {
            AttendHalf(arguments);
            return;
        }

        AttentionShape shape = new(arguments);
        int group = shape.Heads / shape.KvHeads, dims = shape.Dims();
        long tiles = (((long)shape.Length * group) + AttentionShape.TileRows - 1) / AttentionShape.TileRows;
        int floats = (AttentionShape.TileRows * shape.Dim) + (AttentionShape.TileKeys * ((2 * shape.Dim) + 1));
        if (tiles == 0 || arguments.Batch == 0)
        {
            return;
        }

        if (shape.Length == 1)
        {
            AttendToken(shape, arguments);
            return;
        }

        memory.Device.Launch(
            CudaKernelNames.Attention("attention", dims),
            new LaunchShape(tiles, AttentionShape.Threads, arguments.Batch * shape.KvHeads, floats * sizeof(float)),
            [KernelArgument.Structure(&shape), arguments.Query, arguments.Keys, arguments.Values, arguments.Output, arguments.FirstKey]);
    }

    public bool AttendsRows => true;

    public void AttendRows(in RowAttentionArguments arguments) => CudaFlash.Forward(memory, arguments);

    // A recorded step must fit every place of the cache; blocks beyond the token have nothing to do.
    private void AttendToken(AttentionShape shape, in AttentionArguments a)
    {
        int slots = Slot == 0 ? shape.Start + 1 : shape.Capacity, parts = (slots + TokenKeys - 1) / TokenKeys, heads = a.Batch * shape.Heads;
        using CudaStorage results = memory.Rent((nint)heads * parts * (2 + shape.Dim) * sizeof(float), "activations");
        memory.Device.Launch(
            CudaKernelNames.Attention("attention_token", shape.Dims()),
            new LaunchShape(parts, TokenThreads, heads),
            [KernelArgument.Structure(&shape), a.Query, a.Keys, a.Values, a.FirstKey, Slot, results.Address]);
        memory.Device.Launch(CudaKernelNames.Of("attention_join"), new LaunchShape(heads, TokenThreads), [results.Address, a.Output, parts, shape.Dim]);
    }

    public void Gelu(Tensor x, GeluKind kind, Tensor y) => Elements(Variant(kind == GeluKind.Exact ? "gelu_exact" : "gelu_tanh", y), y, [x, y, y.Shape.Count]);

    public void SwiGlu(Tensor gate, Tensor up, Tensor y) => Elements(Variant("swiglu", y), y, [gate, up, y, y.Shape.Count]);

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor y) => Elements(Variant("squared_relu_gate", y), y, [gate, up, y, y.Shape.Count]);

    public void Add(Tensor x, Tensor y) => Elements(Variant("add", x, y), y, [x, y, y.Shape.Count]);

    public void CopyColumns(Tensor x, nint first, Tensor y) =>
        Elements(Variant("copy_columns", y), y, [x, y, y.Shape.Count, first, y.Shape.Columns, x.Shape.Columns]);

    public void AddGram(Tensor x, double[] sum)
    {
        (nint rows, nint columns) = (x.Shape.Rows, x.Shape.Columns);
        if (x.Shape.Count == 0)
        {
            return;
        }

        using CudaStorage gram = memory.Rent(columns * columns * sizeof(float), "calibration");
        memory.Device.Clear(gram.Address, gram.ByteLength);
        products.MultiplyWeight(At(x), At(x), rows, columns, columns, gram.Address);
        float[] values = memory.Download<float>(gram);
        for (nint row = 0; row < columns; row++)
        {
            for (nint column = 0; column <= row; column++)
            {
                sum[(row * columns) + column] += values[(row * columns) + column];
            }
        }
    }

    public void Scale(Tensor x, float factor) => Elements(Variant("scale", x), x, [x, factor, x.Shape.Count]);

    public void Dropout(Tensor x, ulong key, float probability) =>
        Elements(Variant("dropout", x), x, [x, key, (ulong)(probability * (double)(1UL << 32)), 1 / (1 - probability), x.Shape.Count]);

    public void RoundRows(Tensor x, float share)
    {
        if (x.Shape.Count > 0)
        {
            memory.Device.Launch(CudaKernelNames.Of("round_rows_in_part"), CudaGrid.Rows(x.Shape.Rows, x.Shape.Columns), [x, x.Shape.Columns, share]);
        }
    }

    public void Softmax(Tensor x)
    {
        if (x.Shape.Count > 0)
        {
            memory.Device.Launch(CudaKernelNames.Of("softmax"), CudaGrid.Rows(x.Shape.Rows, x.Shape.Columns), [x, x.Shape.Columns]);
        }
    }

    public void LogLikelihood(
        Tensor hidden, IPackedWeight head, Tensor? bias, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace)
    {
        nint rows = hidden.Shape.Rows, most = nint.Min(rows, RowBlock);
        if (rows == 0)
        {
            return;
        }

        using Workspace.Scope scope = workspace.Begin();
        Tensor logits = workspace.Rent(new Shape(most, nint.Min(head.Out, VocabularyBlock)));
        Tensor states = workspace.Rent(new Shape(most * LikelihoodStateBytes), DType.U8);
        for (nint row = 0; row < rows; row += most)
        {
            nint count = nint.Min(most, rows - row);
            for (nint first = 0; first < head.Out; first += VocabularyBlock)
            {
                nint tokens = nint.Min(VocabularyBlock, head.Out - first);
                products.Multiply((CudaPacking)head, new CudaProduct(
                    At(hidden) + (row * head.In * sizeof(float)), count, At(bias), At(logits), tokens, first, tokens));
                memory.Device.Launch(
                    CudaKernelNames.Of("log_likelihood"),
                    CudaGrid.Rows(count, tokens),
                    [logits, states, At(targets) + (row * sizeof(int)), At(logProbabilities) + (row * sizeof(float)), best is null ? 0 : At(best) + (row * sizeof(int)), first, tokens, head.Out]);
            }
        }
    }

    /// <summary>Rotates forward (sign 1) or back (sign −1).</summary>
    internal static void Rope(ICudaDevice device, Tensor x, Tensor positions, Tensor cos, Tensor sin, float sign)
    {
        (nint rows, int heads, int half) = (x.Shape[0], (int)x.Shape[1], (int)cos.Shape[1]);
        if (x.Shape.Count > 0)
        {
            device.Launch(CudaKernelNames.Of(Variant("rope", x)), CudaGrid.Elements(x.Shape.Count / 2), [x, positions, cos, sin, rows, heads, half, sign]);
        }
    }

    /// <summary>Copies into the slots of a cache, or the gradient back from them.</summary>
    internal static void Append(ICudaDevice device, string kernel, Tensor x, Tensor cache, int start, nint slot = 0)
    {
        nint length = x.Shape[0] / nint.Max(cache.Shape[0], 1);
        if (x.Shape.Count > 0)
        {
            (Tensor from, Tensor to) = kernel == "append_to_cache" ? (x, cache) : (cache, x);
            device.Launch(
                CudaKernelNames.Of(Variant(kernel, from, to)),
                CudaGrid.Elements(x.Shape.Count),
                [from, to, x.Shape.Count, (int)length, (int)cache.Shape[1], (int)cache.Shape[2], (int)cache.Shape[3], start, slot]);
        }
    }

    /// <summary>A kernel's variant for what its tensors hold: none for F32 alone.</summary>
    internal static string Variant(string kernel, Tensor x, Tensor? y = null)
    {
        static char Letter(Tensor tensor) => tensor.DType == DType.BF16 ? 'b' : 'f';
        string letters = y is null ? $"{Letter(x)}" : $"{Letter(x)}{Letter(y)}";
        return letters.Contains('b', StringComparison.Ordinal) ? $"{kernel}_{letters}" : kernel;
    }

    private static nint At(Tensor? tensor) => CudaStorage.AddressOf(tensor);

    private void Multiply(Tensor x, IPackedWeight w, Tensor? bias, Tensor y, bool add)
    {
        if (CudaHalfProducts.Takes(x, y))
        {
            half.Multiply((CudaPacking)w, x, bias, y, add);
        }
        else
        {
            products.Multiply((CudaPacking)w, new CudaProduct(At(x), y.Shape.Rows, At(bias), At(y), w.Out, 0, w.Out, add));
        }
    }

    private void Norm(Tensor x, Tensor? weight, Tensor? bias, int centered, float epsilon, Tensor y)
    {
        if (x.Shape.Count > 0)
        {
            memory.Device.Launch(
                CudaKernelNames.Of(Variant("norm", x, y)), CudaGrid.Rows(x.Shape.Rows, x.Shape.Columns), [x, weight, bias, y, x.Shape.Columns, centered, epsilon]);
        }
    }

    private void Elements(string kernel, Tensor y, ReadOnlySpan<KernelArgument> arguments)
    {
        if (y.Shape.Count > 0)
        {
            memory.Device.Launch(CudaKernelNames.Of(kernel), CudaGrid.Elements(y.Shape.Count), arguments);
        }
    }
}
