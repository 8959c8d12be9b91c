using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>
/// Codes in 2, 3, 4 or 8 bits, in units of 16 rows × 128 columns, in the order in which the lanes of a warp feed them to tensor cores
/// (<c>packed.cuh</c>). Rows are padded to 16 and columns to 128 with code 0.
/// </summary>
internal static class CodeWords
{
    private const int UnitRows = 16, UnitColumns = 128, Lanes = 32;

    /// <summary>Words of 16 rows.</summary>
    public static nint PerTile(nint columns, int bits) => (columns + UnitColumns - 1) / UnitColumns * UnitWords(bits);

    /// <summary>Packs a matrix of codes, one a byte.</summary>
    public static uint[] Pack(Tensor codes, int bits, int largest)
    {
        (nint rows, nint columns) = (codes.Shape[0], codes.Shape[1]);
        int perTile = checked((int)PerTile(columns, bits));
        uint[] words = new uint[checked((int)((rows + UnitRows - 1) / UnitRows * perTile))];
        for (int row = 0; row < rows; row++)
        {
            if (codes.Slice(row, 1).HostSpan<byte>().ContainsAnyExceptInRange((byte)0, (byte)largest))
            {
                Throw.Argument("prepare", $"row {row} has a code above {largest}");
            }
        }

        // A tile has words of its own.
        Parallel.For(0, (int)((rows + UnitRows - 1) / UnitRows), tile =>
        {
            for (int row = tile * UnitRows; row < Math.Min(rows, (tile + 1) * UnitRows); row++)
            {
                PackRow(codes.Slice(row, 1).HostSpan<byte>(), row, bits, words.AsSpan(tile * perTile, perTile));
            }
        });
        return words;
    }

    /// <summary>The inverse of <see cref="Pack"/>.</summary>
    public static Tensor Unpack(ReadOnlySpan<uint> words, nint rows, nint columns, int bits)
    {
        Tensor codes = Tensor.OnHost(new Shape(rows, columns), DType.U8);
        int perTile = (int)PerTile(columns, bits);
        for (int row = 0; row < rows; row++)
        {
            ReadOnlySpan<uint> tile = words.Slice(row / UnitRows * perTile, perTile);
            Span<byte> target = codes.Slice(row, 1).HostSpan<byte>();
            for (int column = 0; column < target.Length; column++)
            {
                (int word, int shift) = Place(row, column, bits);
                for (int plane = 0; plane < Planes(bits); plane++)
                {
                    uint code = (tile[word + (plane * 2 * Lanes)] >> shift) & (bits == 3 ? 1u : (1u << bits) - 1);
                    target[column] |= (byte)(code << plane);
                }
            }
        }

        return codes;
    }

    private static void PackRow(ReadOnlySpan<byte> codes, int row, int bits, Span<uint> tile)
    {
        for (int column = 0; column < codes.Length; column++)
        {
            (int word, int shift) = Place(row, column, bits);
            uint code = codes[column];
            for (int plane = 0; plane < Planes(bits); plane++)
            {
                tile[word + (plane * 2 * Lanes)] |= (bits == 3 ? (code >> plane) & 1 : code) << shift;
            }
        }
    }

    private static int UnitWords(int bits) => 64 * bits;

    private static int Planes(int bits) => bits == 3 ? 3 : 1;

    // Lane 4·g + t of the unit has rows g and g + 8 (h), and of each 32 columns (i) the eight from 8·t on (e).
    private static (int Word, int Shift) Place(int row, int column, int bits)
    {
        int h = row / 8 % 2, lane = (row % 8 * 4) + (column / 8 % 4), i = column % UnitColumns / 32, e = column % 8;
        (int word, int shift) = bits switch
        {
            2 => ((4 * lane) + (2 * h) + (i / 2), (16 * (i % 2)) + (2 * e)),
            3 => ((2 * lane) + h, (8 * i) + e),
            4 => ((((Lanes * h) + lane) * 4) + i, 4 * e),
            _ => (((((2 * h) + (i / 2)) * Lanes) + lane) * 4 + (2 * (i % 2)) + (e / 4), 8 * (e % 4)),
        };
        return ((column / UnitColumns * UnitWords(bits)) + word, shift);
    }
}
