using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>GPTQ's packing along the first dimension: each column of codes is a stream of bits down the rows.</summary>
internal static class WordColumns
{
    /// <summary>Codes <c>[in, out]</c> to I32 <c>[in·bits/32, out]</c>.</summary>
    public static unsafe Tensor Pack(Tensor codes, int bits)
    {
        nint rows = codes.Shape[0], columns = codes.Shape[1], words = rows * bits / 32;
        Tensor packed = Tensor.OnHost(new Shape(words, columns), DType.I32);
        Spread.Over(words, columns * 32 / bits, (first, last) =>
        {
            for (nint word = first; word < last; word++)
            {
                uint* target = (uint*)packed.HostPointer + (word * columns);
                // The rows whose bits fall into this word; with 3 bits the first and last may lie in two words.
                for (nint row = word * 32 / bits; row < rows && row * bits < (word + 1) * 32; row++)
                {
                    int shift = (int)((row * bits) - (word * 32));
                    byte* source = codes.HostPointer + (row * columns);
                    for (nint i = 0; i < columns; i++)
                    {
                        target[i] |= shift >= 0 ? (uint)source[i] << shift : (uint)source[i] >> -shift;
                    }
                }
            }
        });
        return packed;
    }

    /// <summary>Reads codes <c>[in, out]</c> back.</summary>
    public static unsafe Tensor Unpack(Tensor packed, nint rows, int bits)
    {
        nint columns = packed.Shape[1], words = packed.Shape[0];
        uint mask = (1u << bits) - 1;
        Tensor codes = Tensor.OnHost(new Shape(rows, columns), DType.U8);
        Spread.Over(rows, columns, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                nint word = row * bits / 32;
                int shift = (int)(row * bits % 32);
                uint* low = (uint*)packed.HostPointer + (word * columns);
                uint* high = word + 1 < words ? low + columns : low;
                byte* target = codes.HostPointer + (row * columns);
                for (nint i = 0; i < columns; i++)
                {
                    ulong both = low[i] | ((ulong)high[i] << 32);
                    target[i] = (byte)((both >> shift) & mask);
                }
            }
        });
        return codes;
    }
}
