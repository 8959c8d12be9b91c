using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>How HQQ packs the rows of the grouped matrix: with P stored rows, part k holds rows k·P …, the first part in the highest bits.</summary>
/// <param name="Name">The layout's own name.</param>
/// <param name="Bits">Bits that a code takes.</param>
/// <param name="Parts">Codes in a word.</param>
/// <param name="Word">Bytes of a word.</param>
internal sealed record HqqPacking(string Name, int Bits, int Parts, int Word)
{
    private static readonly HqqPacking Eight = new("8bit_u8", 8, 1, 1), Four = new("4bit_u8", 4, 2, 1), Three = new("3bit_32", 3, 10, 4);
    private static readonly HqqPacking Two = new("2bit_u8", 2, 4, 1), One = new("1bit_u8", 1, 8, 1);

    /// <summary>The packing of codes of so many bits.</summary>
    public static HqqPacking Of(int bits) => bits switch
    {
        4 => Four,
        3 => Three,
        2 => Two,
        1 => One,
        _ => Eight,
    };

    /// <summary>Packs codes seen as a matrix of so many rows.</summary>
    public unsafe Tensor Pack(Tensor codes, nint rows)
    {
        nint columns = rows == 0 ? 0 : codes.Shape.Count / rows, stored = (rows + Parts - 1) / Parts;
        Tensor packed = Tensor.OnHost(new Shape(stored, columns), Word == 1 ? DType.U8 : DType.I32);
        Spread.Over(stored, columns * Parts, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                for (int part = 0; part < Parts && (part * stored) + row < rows; part++)
                {
                    byte* source = codes.HostPointer + (((part * stored) + row) * columns);
                    int shift = Bits * (Parts - 1 - part);
                    for (nint i = 0; i < columns; i++)
                    {
                        if (Word == 1)
                        {
                            packed.HostPointer[(row * columns) + i] |= (byte)(source[i] << shift);
                        }
                        else
                        {
                            ((uint*)packed.HostPointer)[(row * columns) + i] |= (uint)source[i] << shift;
                        }
                    }
                }
            }
        });
        return packed;
    }

    /// <summary>Reads codes back from the packed bytes.</summary>
    public unsafe Tensor Unpack(Tensor packed, nint rows, Shape shape)
    {
        nint columns = rows == 0 ? 0 : shape.Count / rows, stored = (rows + Parts - 1) / Parts;
        uint mask = (1u << Bits) - 1;
        Tensor codes = Tensor.OnHost(shape, DType.U8);
        Spread.Over(rows, columns, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                int shift = Bits * (Parts - 1 - (int)(row / stored));
                nint start = row % stored * columns;
                byte* target = codes.HostPointer + (row * columns);
                for (nint i = 0; i < columns; i++)
                {
                    uint word = Word == 1 ? packed.HostPointer[start + i] : ((uint*)packed.HostPointer)[start + i];
                    target[i] = (byte)((word >> shift) & mask);
                }
            }
        });
        return codes;
    }
}
