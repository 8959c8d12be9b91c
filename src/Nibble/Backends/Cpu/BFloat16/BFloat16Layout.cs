using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Nibble.Backends.Cpu.BFloat16;

/// <summary>
/// Both sides of a BF16 product as tiles read them. A: tiles of 16 rows, in each the steps of 32 elements one after the other, in a step
/// 16 rows of 64 bytes. B: panels of columns, in each a line of 32-bit words for every pair of neighbouring elements, one word a column. Both
/// end with whole steps, filled with 0. Numbers are rounded to nearest even, below 2^−126 to 0 (as vcvtneps2bf16); NaN stays NaN.
/// </summary>
internal static unsafe class BFloat16Layout
{
    /// <summary>Rows of a tile, elements of a step, lines of a step, elements of a tile's step.</summary>
    public const int TileRows = 16, Step = 32, StepLines = 16, StepElements = TileRows * Step;

    private const uint Magnitude = 0x7fff_ffff, Infinity = 0x7f80_0000, Quiet = 0x0040_0000, Sign = 0x8000_0000, Half = 0x7fff, High = 0xffff_0000;

    /// <summary>Steps that hold <paramref name="depth"/> elements.</summary>
    public static nint Steps(nint depth) => (depth + Step - 1) / Step;

    /// <summary>Tiles that hold <paramref name="rows"/> rows.</summary>
    public static nint Tiles(nint rows) => (rows + TileRows - 1) / TileRows;

    /// <summary>The nearest BF16 number, in the high half; the low half is undefined.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Round(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (bits & Magnitude) > Infinity ? bits | Quiet : (bits & Infinity) == 0 ? bits & Sign : bits + Half + (bits >> 16 & 1);
    }

    /// <summary>Rounds rows of A whose elements stand side by side; a whole tile of 16 rows or what is left of one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackRows(float* a, nint rowStride, nint rows, nint depth, ushort* tile)
    {
        for (nint row = 0; row < rows; row++)
        {
            float* source = a + (row * rowStride);
            ushort* target = tile + (row * Step);
            nint k = 0;
            for (; k <= depth - Step; k += Step, target += StepElements)
            {
                RoundRun(source + k, Step, target);
            }

            if (k < depth)
            {
                RoundEnd(source + k, depth - k, target);
            }
        }
    }

    /// <summary>
    /// Rounds up to 32 steps of k of a matrix that is A transposed: element (row, k) is <c>a[row + k·stepStride]</c>. They become one step of all tiles.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackColumns(float* a, nint stepStride, nint steps, nint rows, ushort* packed, nint tileStride)
    {
        uint* pairs = stackalloc uint[StepLines * TileRows];
        for (nint row = 0; row < rows; row += TileRows, packed += tileStride)
        {
            int valid = (int)nint.Min(TileRows, rows - row);
            for (int line = 0; line < StepLines; line++)
            {
                RoundPair(a + row + (2 * line * stepStride), stepStride, (int)nint.Clamp(steps - (2 * line), 0, 2), valid, pairs + (line * TileRows));
            }

            Transpose(pairs, TileRows, StepLines, TileRows, (uint*)packed, StepLines);
        }
    }

    /// <summary>One line of B: words of <paramref name="rows"/> (0 to 2) neighbouring rows of a matrix.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void RoundPair(float* first, nint stride, int rows, int columns, uint* line)
    {
        if (rows == 2)
        {
            RoundTwo(first, first + stride, columns, line);
        }
        else
        {
            RoundLast(first, rows, columns, line);
        }
    }

    /// <summary>Lines of B from <paramref name="count"/> rows of a matrix, which follow each other without a gap.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void RoundPairs(float* source, nint count, int columns, uint* lines)
    {
        for (nint k = 0; k < count; k += 2, source += 2 * columns, lines += columns)
        {
            RoundPair(source, columns, (int)nint.Min(2, count - k), columns, lines);
        }
    }

    /// <summary>Lines of B from a panel of BF16 in pair order (<see cref="Kernels.PanelLayout"/>) of vectors of <paramref name="lanes"/>: numbers change places only.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PairRows(ushort* panel, nint count, int lanes, uint* lines)
    {
        uint* source = (uint*)panel;
        nint k = 0;
        for (; k <= count - 2; k += 2, source += 2 * lanes, lines += 2 * lanes)
        {
            int i = 0;
            for (; Vector512.IsHardwareAccelerated && i <= lanes - 16; i += 16)
            {
                Vector512<uint> a = Vector512.Load(source + i), b = Vector512.Load(source + lanes + i);
                ((a & Vector512.Create(~High)) | Vector512.ShiftLeft(b, 16)).Store(lines + i);
                (Vector512.ShiftRightLogical(a, 16) | (b & Vector512.Create(High))).Store(lines + lanes + i);
            }

            for (; i < lanes; i += 4)
            {
                Vector128<uint> a = Vector128.Load(source + i), b = Vector128.Load(source + lanes + i);
                ((a & Vector128.Create(~High)) | Vector128.ShiftLeft(b, 16)).Store(lines + i);
                (Vector128.ShiftRightLogical(a, 16) | (b & Vector128.Create(High))).Store(lines + lanes + i);
            }
        }

        for (int i = 0; k < count && i < lanes; i++)
        {
            lines[i] = source[i] & ~High;
            lines[lanes + i] = source[i] >> 16;
        }
    }

    /// <summary>Rounds a run of floats.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void RoundRun(float* source, int count, ushort* target)
    {
        int i = 0;
        if (Vector512.IsHardwareAccelerated)
        {
            for (; i <= count - 32; i += 32)
            {
                Vector512<uint> low = Vector512.ShiftRightLogical(Round(Vector512.Load(source + i)), 16);
                Vector512<uint> high = Vector512.ShiftRightLogical(Round(Vector512.Load(source + i + 16)), 16);
                Vector512.Narrow(low, high).Store(target + i);
            }
        }

        for (; i <= count - 16; i += 16)
        {
            Vector256<uint> low = Vector256.ShiftRightLogical(Round(Vector256.Load(source + i)), 16);
            Vector256<uint> high = Vector256.ShiftRightLogical(Round(Vector256.Load(source + i + 8)), 16);
            Vector256.Narrow(low, high).Store(target + i);
        }

        for (; i < count; i++)
        {
            target[i] = (ushort)(Round(source[i]) >> 16);
        }
    }

    /// <summary>Columns of a matrix of words become rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Transpose(uint* source, nint sourceStride, int rows, int columns, uint* target, nint targetStride)
    {
        int row = 0;
        for (; Sse.IsSupported && row <= rows - 4; row += 4)
        {
            int column = 0;
            for (; column <= columns - 4; column += 4)
            {
                TransposeFour((float*)source + (row * sourceStride) + column, sourceStride, (float*)target + (column * targetStride) + row, targetStride);
            }

            TransposeRest(source + (row * sourceStride), sourceStride, 4, column, columns, target + row, targetStride);
        }

        TransposeRest(source + (row * sourceStride), sourceStride, rows - row, 0, columns, target + row, targetStride);
    }

    private static void TransposeRest(uint* source, nint sourceStride, int rows, int column, int columns, uint* target, nint targetStride)
    {
        for (; column < columns; column++)
        {
            for (int row = 0; row < rows; row++)
            {
                target[(column * targetStride) + row] = source[(row * sourceStride) + column];
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void TransposeFour(float* source, nint sourceStride, float* target, nint targetStride)
    {
        Vector128<float> a = Vector128.Load(source), b = Vector128.Load(source + sourceStride);
        Vector128<float> c = Vector128.Load(source + (2 * sourceStride)), d = Vector128.Load(source + (3 * sourceStride));
        Vector128<float> lowAb = Sse.UnpackLow(a, b), lowCd = Sse.UnpackLow(c, d), highAb = Sse.UnpackHigh(a, b), highCd = Sse.UnpackHigh(c, d);
        Sse.MoveLowToHigh(lowAb, lowCd).Store(target);
        Sse.MoveHighToLow(lowCd, lowAb).Store(target + targetStride);
        Sse.MoveLowToHigh(highAb, highCd).Store(target + (2 * targetStride));
        Sse.MoveHighToLow(highCd, highAb).Store(target + (3 * targetStride));
    }

    // The last elements of a row: the rest of the step is 0.
    private static void RoundEnd(float* source, nint count, ushort* target)
    {
        for (int i = 0; i < Step; i++)
        {
            target[i] = i < count ? (ushort)(Round(source[i]) >> 16) : (ushort)0;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void RoundTwo(float* first, float* second, int count, uint* line)
    {
        int i = 0;
        if (Vector512.IsHardwareAccelerated)
        {
            for (; i <= count - 16; i += 16)
            {
                Vector512<uint> low = Vector512.ShiftRightLogical(Round(Vector512.Load(first + i)), 16);
                (low | (Round(Vector512.Load(second + i)) & Vector512.Create(High))).Store(line + i);
            }
        }

        for (; i <= count - 8; i += 8)
        {
            Vector256<uint> low = Vector256.ShiftRightLogical(Round(Vector256.Load(first + i)), 16);
            (low | (Round(Vector256.Load(second + i)) & Vector256.Create(High))).Store(line + i);
        }

        for (; i < count; i++)
        {
            line[i] = Round(first[i]) >> 16 | (Round(second[i]) & High);
        }
    }

    private static void RoundLast(float* first, int rows, int count, uint* line)
    {
        for (int i = 0; i < count; i++)
        {
            line[i] = rows == 0 ? 0 : Round(first[i]) >> 16;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Round(Vector512<float> value)
    {
        Vector512<uint> bits = value.AsUInt32();
        Vector512<uint> rounded = bits + Vector512.Create(Half) + (Vector512.ShiftRightLogical(bits, 16) & Vector512<uint>.One);
        rounded = Vector512.ConditionalSelect(Vector512.Equals(bits & Vector512.Create(Infinity), Vector512<uint>.Zero), bits & Vector512.Create(Sign), rounded);
        return Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), rounded, bits | Vector512.Create(Quiet));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Round(Vector256<float> value)
    {
        Vector256<uint> bits = value.AsUInt32();
        Vector256<uint> rounded = bits + Vector256.Create(Half) + (Vector256.ShiftRightLogical(bits, 16) & Vector256<uint>.One);
        rounded = Vector256.ConditionalSelect(Vector256.Equals(bits & Vector256.Create(Infinity), Vector256<uint>.Zero), bits & Vector256.Create(Sign), rounded);
        return Vector256.ConditionalSelect(Vector256.Equals(value, value).AsUInt32(), rounded, bits | Vector256.Create(Quiet));
    }
}
