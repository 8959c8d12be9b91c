using Nibble.Backends.Cpu.PackCache;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// Codes of 2, 3, 4 or 8 bits at their true width, as panels of <see cref="Lanes"/> output features: <c>[panel][chunk][lane]</c>
/// of 32-bit words. A word holds neighbouring columns of one row, the first in its lowest bits, so that one vector load gives the
/// same columns of many rows: decoding needs a shift and a mask, and neither a product with floats nor one with bytes needs sums
/// across lanes. 3 bits take three vectors for 32 columns: two of low pairs, one of high bits, whose bit 8·(j/4) + j%4 + 4·half
/// belongs to column j of a half of 16, so that both fall together with the same shifts, also byte by byte.
/// </summary>
internal sealed unsafe class CodePanels : IDisposable
{
    /// <summary>Every chunk divides this number of columns.</summary>
    public const int Alignment = 32;

    private readonly HostStorage _storage;

    /// <summary>Packs the codes of <paramref name="weight"/>, none above <paramref name="largest"/>.</summary>
    public CodePanels(QuantizedWeight weight, int bits, int largest, int lanes, CpuThreads threads)
    {
        (Bits, Lanes, Rows, Columns) = (bits, lanes, weight.Out, weight.In);
        (ChunkColumns, ChunkWords) = Chunk(bits);
        Chunks = (Columns + ChunkColumns - 1) / ChunkColumns;
        PanelWords = Chunks * ChunkWords * lanes;
        _storage = new NativeStorage(checked(Panels * PanelWords * sizeof(uint)));
        CodePacker packer = new() { Target = this, Codes = weight.Codes.HostPointer, Largest = new byte[Panels] };
        threads.Run(checked((int)Panels), packer);
        int wrong = Array.FindIndex(packer.Largest, code => code > largest);
        if (wrong >= 0)
        {
            Throw.Argument(
                "prepare",
                $"rows {wrong * Lanes} to {nint.Min(Rows, (wrong + 1) * Lanes) - 1} of a quantized weight [{Rows}, {Columns}] have code {packer.Largest[wrong]}; the largest allowed is {largest}");
        }
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    public CodePanels(PackReader reader, int lanes)
    {
        (Bits, Rows, Columns, Lanes) = (reader.Int(), reader.Size(), reader.Size(), lanes);
        (ChunkColumns, ChunkWords) = Chunk(Bits);
        Chunks = (Columns + ChunkColumns - 1) / ChunkColumns;
        PanelWords = Chunks * ChunkWords * lanes;
        _storage = reader.Block(checked(Panels * PanelWords * sizeof(uint)));
    }

    /// <summary>Bits of a code as it is kept.</summary>
    public int Bits { get; }

    /// <summary>Rows of a panel.</summary>
    public int Lanes { get; }

    public nint Rows { get; }

    public nint Columns { get; }

    /// <summary>Columns that share a word (for 3 bits, three words).</summary>
    public int ChunkColumns { get; }

    /// <summary>Chunks of a row, the last one filled with zeros.</summary>
    public nint Chunks { get; }

    /// <summary>Words of a chunk, one vector a word.</summary>
    public int ChunkWords { get; }

    public nint PanelWords { get; }

    public nint Panels => (Rows + Lanes - 1) / Lanes;

    public nint ByteLength => _storage.ByteLength;

    /// <summary>The words of a panel.</summary>
    public uint* Panel(nint panel) => (uint*)_storage.Pointer + (panel * PanelWords);

    /// <summary>The words of a panel from the chunk on that holds a column.</summary>
    public uint* Panel(nint panel, nint column) =>
        Panel(panel) + (column / ChunkColumns * ChunkWords * Lanes);

    /// <summary>Writes the codes of columns start … start + count − 1 of a row, one a byte.</summary>
    public void ReadRow(nint row, nint start, nint count, byte* destination)
    {
        nint end = start + count;
        while (start < end)
        {
            uint* word = Panel(row / Lanes, start) + (row % Lanes);
            int j = (int)(start % ChunkColumns);
            int last = (int)nint.Min(ChunkColumns, j + end - start);
            start += last - j;
            for (; j < last; j++)
            {
                *destination++ = Bits == 3
                    ? (byte)(((word[j / 16 * Lanes] >> (2 * (j % 16))) & 3) | (((word[2 * Lanes] >> HighBit(j)) & 1) << 2))
                    : (byte)((*word >> (Bits * j)) & ((1u << Bits) - 1));
            }
        }
    }

    /// <summary>All codes again, one a byte.</summary>
    public Tensor Unpack()
    {
        Tensor codes = Tensor.OnHost(new Shape(Rows, Columns), DType.U8);
        for (nint row = 0; row < Rows; row++)
        {
            ReadRow(row, 0, Columns, codes.HostPointer + (row * Columns));
        }

        return codes;
    }

    public void Save(PackWriter writer)
    {
        writer.Number(Bits);
        writer.Number(Rows);
        writer.Number(Columns);
        writer.Block(_storage);
    }

    public void Dispose() => _storage.Dispose();

    private static (int Columns, int Words) Chunk(int bits) => bits == 3 ? (32, 3) : (32 / bits, 1);

    /// <summary>The bit of the third word that column <paramref name="j"/> of a chunk of 3-bit codes has.</summary>
    public static int HighBit(int j) => (8 * (j % 16 / 4)) + (j % 4) + (4 * (j / 16));
}
