using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace Nibble.Quantization.Layouts;

/// <summary>Codes of 1 to 8 bits as one little-endian stream of bits in 32-bit words: element i begins at bit i · bits.</summary>
internal static class BitStream
{
    /// <summary>Words for <paramref name="count"/> codes.</summary>
    public static nint Words(nint count, int bits) => ((count * bits) + 31) / 32;

    /// <summary>Words where each holds as many whole codes as fit.</summary>
    public static nint WholeCodeWords(nint count, int bits) => (count + (32 / bits) - 1) / (32 / bits);

    /// <summary>Packs codes; spare bits of the last word are zero.</summary>
    public static void Pack(ReadOnlySpan<byte> codes, int bits, Span<uint> words)
    {
        if (bits == 8 && BitConverter.IsLittleEndian)
        {
            words.Clear();
            codes.CopyTo(MemoryMarshal.AsBytes(words));
            return;
        }

        ulong pending = 0;
        int filled = 0, word = 0;
        foreach (byte code in codes)
        {
            pending |= (ulong)code << filled;
            filled += bits;
            if (filled >= 32)
            {
                words[word++] = (uint)pending;
                pending >>= 32;
                filled -= 32;
            }
        }

        if (filled > 0)
        {
            words[word] = (uint)pending;
        }
    }

    /// <summary>Reads codes of words that hold whole codes only.</summary>
    public static void UnpackWholeCodes(ReadOnlySpan<uint> words, int bits, Span<byte> codes)
    {
        int each = 32 / bits;
        uint mask = (1u << bits) - 1;
        for (int i = 0; i < codes.Length; i++)
        {
            codes[i] = (byte)((words[i / each] >> (i % each * bits)) & mask);
        }
    }

    /// <summary>Reads codes back.</summary>
    public static void Unpack(ReadOnlySpan<uint> words, int bits, Span<byte> codes)
    {
        int done = UnpackEights(words, bits, codes);
        uint mask = (1u << bits) - 1;
        ulong pending = 0;
        int filled = 0, word = (int)((long)done * bits / 32);
        if (done < codes.Length && (long)done * bits % 32 is var used and > 0)
        {
            pending = (ulong)words[word++] >> (int)used;
            filled = 32 - (int)used;
        }

        foreach (ref byte code in codes[done..])
        {
            if (filled < bits)
            {
                pending |= (ulong)words[word++] << filled;
                filled += 32;
            }

            code = (byte)(pending & mask);
            pending >>= bits;
            filled -= bits;
        }
    }

    /// <summary>Eight codes are as many bytes as a code has bits, and one instruction spreads them. Returns how many codes were read.</summary>
    private static int UnpackEights(ReadOnlySpan<uint> words, int bits, Span<byte> codes)
    {
        if (!Bmi2.X64.IsSupported || bits > 8)
        {
            return 0;
        }

        ulong places = 0x0101010101010101 * ((1ul << bits) - 1);
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(words);
        int done = 0;
        for (int start = 0; done + 8 <= codes.Length && start + sizeof(ulong) <= bytes.Length; done += 8, start += bits)
        {
            ulong eight = Bmi2.X64.ParallelBitDeposit(BinaryPrimitives.ReadUInt64LittleEndian(bytes[start..]), places);
            BinaryPrimitives.WriteUInt64LittleEndian(codes[done..], eight);
        }

        return done;
    }
}
