using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>
/// Codes in 2, 3, 4 or 8 bits, in the order in which a warp reads them (<c>product.cuh</c>): lane l of 32 holds columns l, l + 32,
/// l + 64 … of a chunk, lowest bits first; 3 bits as three planes. Rows are padded to whole chunks with code 0.
/// </summary>
internal static class CodeWords
{
    private const int Lanes = 32;

    /// <summary>Words of a row.</summary>
    public static nint PerRow(nint columns, int bits) => (columns + Columns(bits) - 1) / Columns(bits) * Words(bits) * Lanes;

    /// <summary>Packs a matrix of codes, one a byte.</summary>
    public static uint[] Pack(Tensor codes, int bits, int largest)
    {
        (nint rows, nint columns) = (codes.Shape[0], codes.Shape[1]);
        int perRow = checked((int)PerRow(columns, bits));
        uint[] words = new uint[checked((int)(rows * perRow))];
        for (int row = 0; row < rows; row++)
        {
            ReadOnlySpan<byte> source = codes.Slice(row, 1).HostSpan<byte>();
            if (source.ContainsAnyExceptInRange((byte)0, (byte)largest))
            {
                Throw.Argument("prepare", $"row {row} has a code above {largest}");
            }

            PackRow(source, bits, words.AsSpan(row * perRow, perRow));
        }

        return words;
    }

    /// <summary>The inverse of <see cref="Pack"/>.</summary>
    public static Tensor Unpack(ReadOnlySpan<uint> words, nint rows, nint columns, int bits)
    {
        Tensor codes = Tensor.OnHost(new Shape(rows, columns), DType.U8);
        int perRow = (int)PerRow(columns, bits);
        for (int row = 0; row < rows; row++)
        {
            UnpackRow(words.Slice(row * perRow, perRow), bits, codes.Slice(row, 1).HostSpan<byte>());
        }

        return codes;
    }

    private static int Words(int bits) => bits == 3 ? 3 : 1;

    private static int Columns(int bits) => bits == 3 ? 32 * Lanes : 32 / bits * Lanes;

    private static void PackRow(ReadOnlySpan<byte> codes, int bits, Span<uint> words)
    {
        for (int column = 0; column < codes.Length; column += Lanes)
        {
            (int chunk, int step) = (column / Columns(bits), column % Columns(bits) / Lanes);
            ReadOnlySpan<byte> lanes = codes.Slice(column, Math.Min(Lanes, codes.Length - column));
            Span<uint> target = words[(chunk * Words(bits) * Lanes)..];
            for (int lane = 0; bits != 3 && lane < lanes.Length; lane++)
            {
                target[lane] |= (uint)lanes[lane] << (bits * step);
            }

            for (int i = 0; bits == 3 && i < 3 * lanes.Length; i++)
            {
                (int lane, int plane) = (i / 3, i % 3);
                target[(plane * Lanes) + lane] |= (((uint)lanes[lane] >> plane) & 1) << step;
            }
        }
    }

    private static void UnpackRow(ReadOnlySpan<uint> words, int bits, Span<byte> codes)
    {
        for (int column = 0; column < codes.Length; column++)
        {
            (int chunk, int step, int lane) = (column / Columns(bits), column % Columns(bits) / Lanes, column % Lanes);
            int word = (chunk * Words(bits) * Lanes) + lane;
            codes[column] = bits != 3
                ? (byte)((words[word] >> (bits * step)) & ((1u << bits) - 1))
                : (byte)(((words[word] >> step) & 1) | (((words[word + Lanes] >> step) & 1) << 1) | (((words[word + (2 * Lanes)] >> step) & 1) << 2));
        }
    }
}
