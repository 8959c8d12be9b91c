using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>Attention of one query over the keys of one head: the decoding of a model without grouped heads.</summary>
internal static unsafe class AttentionRow<S, V, F>
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IKvFormat
{
    // Keys and values of a block that had to be widened stay in the first-level cache.
    private static int KeyBlock => F.IsFloat ? 128 : 32;

    /// <summary>
    /// sums = Σ e^(score − largest)·value over keys <paramref name="first"/> … <paramref name="end"/> − 1, where score = scale·query·key;
    /// zeros if there is none. Returns the largest score and the sum of the weights.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static (float Largest, float Total) Run(float* query, float* output, byte* keys, byte* values, nint first, nint end, nint dim, float scale)
    {
        float* scores = stackalloc float[KeyBlock];
        nint rowBytes = F.RowBytes(dim), widened = KvRows<S, V, F>.Scratch(KeyBlock, dim);
        using CpuScratch.Lease scratch = CpuScratch.Rent(2 * widened * sizeof(float));
        float* memory = (float*)scratch.Pointer;
        new Span<float>(output, (int)dim).Clear();
        float largest = float.NegativeInfinity, total = 0;
        for (nint key = first; key < end; key += KeyBlock)
        {
            nint count = nint.Min(KeyBlock, end - key);
            Score(query, KvRows<S, V, F>.Load(keys + (key * rowBytes), count, dim, memory), count, dim, scores);
            Reduce<S, V>.Scale(scores, scale, count);
            float next = MathF.Max(largest, Reduce<S, V>.Largest(scores, count));
            float shift = next == float.NegativeInfinity ? 0 : next;
            float correction = MathF.Exp(largest - shift);
            total = (total * correction) + Reduce<S, V>.ExpAndSum(scores, shift, count);
            if (correction != 1)
            {
                Reduce<S, V>.Scale(output, correction, dim);
            }

            Weigh(scores, KvRows<S, V, F>.Load(values + (key * rowBytes), count, dim, memory + widened), count, dim, output);
            largest = next;
        }

        return (largest, total);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Score(float* query, float* keys, nint count, nint dim, float* scores)
    {
        nint i = 0;
        for (; i <= count - 4; i += 4)
        {
            Reduce<S, V>.Dot4(query, keys + (i * dim), dim, dim, scores + i);
        }

        for (; i < count; i++)
        {
            scores[i] = Reduce<S, V>.Dot(query, keys + (i * dim), dim);
        }
    }

    // output += Σ weight·value: tiles of one row, whose panels are columns of the values.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Weigh(float* weights, float* values, nint count, nint dim, float* output)
    {
        int width = 2 * S.Count;
        Tile tile = new()
        {
            Depth = count, A = weights, AStep = 1, BStep = dim * sizeof(float), PanelBytes = width * sizeof(float),
        };
        nint j = 0;
        while (j <= dim - width)
        {
            int panels = Gemm<S, V>.KernelPanels(1, (dim - j) / width);
            tile.B = (byte*)(values + j);
            tile.C = tile.Start = output + j;
            Gemm<S, V>.RunTile<FloatLoader>(1, panels, tile);
            j += panels * width;
        }

        for (nint i = 0; i < count && j < dim; i++)
        {
            Reduce<S, V>.AddScaled(values + (i * dim) + j, weights[i], output + j, dim - j);
        }
    }
}
