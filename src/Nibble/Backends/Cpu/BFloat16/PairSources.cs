using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Gradients;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.BFloat16;

/// <summary>Some columns of the right side of a BF16 product, over all of its depth.</summary>
/// <param name="First">First column, a multiple of the panel's width.</param>
/// <param name="Columns">Columns.</param>
/// <param name="Depth">Elements that are summed.</param>
/// <param name="Steps">Steps of 32 that hold them: a panel has 16 lines for each.</param>
internal readonly record struct PairBlock(nint First, nint Columns, nint Depth, nint Steps);

/// <summary>The right side B <c>[depth, columns]</c> of a BF16 product, brought into panels of pairs.</summary>
internal unsafe interface IPairSource
{
    /// <summary>Pieces in which it can be packed, in any order.</summary>
    int Parts(in PairBlock block);

    /// <summary>Packs a piece.</summary>
    void Pack(int part, in PairBlock block, uint* packed);
}

/// <summary>B is a matrix in memory whose columns stand side by side.</summary>
internal readonly unsafe struct MatrixPairs<S, V>(float* pointer, nint stepStride, nint valid) : IPairSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private readonly float* _pointer = pointer;

    // Pieces of k, not of columns: rows are read in long runs.
    public int Parts(in PairBlock block) => checked((int)block.Steps);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Pack(int part, in PairBlock block, uint* packed)
    {
        int width = Blocks<S, V>.Width;
        nint k = (nint)part * BFloat16Layout.Step, panelWords = block.Steps * BFloat16Layout.StepLines * width;
        float* source = _pointer + (k * stepStride) + block.First;
        packed += part * BFloat16Layout.StepLines * width;
        for (nint column = 0; column < block.Columns; column += width, packed += panelWords)
        {
            int columns = (int)nint.Clamp(valid - block.First - column, 0, width);
            for (int line = 0; line < BFloat16Layout.StepLines; line++)
            {
                int rows = (int)nint.Clamp(block.Depth - k - (2 * line), 0, 2);
                BFloat16Layout.RoundPair(source + (2 * line * stepStride) + column, stepStride, rows, columns, packed + (line * width));
                new Span<uint>(packed + (line * width) + columns, width - columns).Clear();
            }
        }
    }
}

/// <summary>B is a weight <c>[out, in]</c> transposed, as in the forward product: depth runs over input features, columns are output features from one on.</summary>
internal readonly unsafe struct TransposedPairs<S, V>(CpuPacking weight, nint first) : IPairSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public int Parts(in PairBlock block) => checked((int)Blocks<S, V>.Panels(block.Columns));

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Pack(int part, in PairBlock block, uint* packed)
    {
        int width = Blocks<S, V>.Width;
        nint feature = first + block.First + (part * width), lines = block.Steps * BFloat16Layout.StepLines;
        packed += part * lines * width;
        weight.DecodePairs(feature, (int)nint.Min(width, weight.Out - feature), packed);
        nint written = (block.Depth + 1) / 2;
        new Span<uint>(packed + (written * width), checked((int)((lines - written) * width))).Clear();
    }
}

/// <summary>B is a weight <c>[out, in]</c> as it stands: depth runs over output features.</summary>
internal readonly unsafe struct WeightPairs<S, V>(CpuPacking weight) : IPairSource
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const nint MostColumns = 256;

    // A panel of the packing is a piece: its lanes are neighbours in depth. Lines beyond the last panel are zero.
    public int Parts(in PairBlock block) => checked((int)(block.Steps * BFloat16Layout.Step / Blocks<S, V>.Width));

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Pack(int part, in PairBlock block, uint* packed)
    {
        int width = Blocks<S, V>.Width, lines = width / 2;
        nint feature = (nint)part * width, panelWords = block.Steps * BFloat16Layout.StepLines * width;
        packed += part * lines * width;
        int features = (int)nint.Clamp(weight.Out - feature, 0, width);
        using CpuScratch.Lease scratch = CpuScratch.Rent(MostColumns * width * sizeof(float));
        uint* rounded = stackalloc uint[lines * width];
        for (nint column = 0; column < block.Columns; column += MostColumns)
        {
            nint columns = nint.Min(MostColumns, block.Columns - column);
            float* values = (float*)scratch.Pointer;
            if (features > 0 && weight.FloatPanels != null)
            {
                values = weight.FloatPanels + (feature * weight.In) + ((block.First + column) * width);
            }
            else if (features > 0)
            {
                weight.DecodePanel(feature, features, block.First + column, columns, values);
            }

            for (nint j = 0; j < columns; j += width)
            {
                int valid = features == 0 ? 0 : (int)nint.Min(width, columns - j);
                new Span<uint>(rounded + (valid * lines), (width - valid) * lines).Clear();
                BFloat16Layout.RoundRun(values + (j * width), valid * width, (ushort*)rounded);
                BFloat16Layout.Transpose(rounded, lines, width, lines, packed + ((column + j) / width * panelWords), width);
            }
        }
    }
}
