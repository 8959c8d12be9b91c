using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// Codes of a strip taken out of their words, once for many rows of x: as bytes where the vector multiplies bytes without loss, else as
/// 16-bit numbers. The integers that come out of a product are those of the packed codes, so results keep their bits.
/// </summary>
internal static unsafe class DecodedStrip<V, L, B>
    where V : unmanaged
    where L : struct, IByteLanes<B, V>
    where B : unmanaged
{
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;

    /// <summary>What <paramref name="format"/> becomes.</summary>
    public static ByteFormat Format(ByteFormat format) => format switch
    {
        ByteFormat.Levels => ByteFormat.Words,
        ByteFormat.Bits8 => L.HasByteProducts ? ByteFormat.Bytes : ByteFormat.Words,
        _ => ByteFormat.Bytes,
    };

    /// <summary>Decodes all chunks of a strip, and lets the tile read the result.</summary>
    public static void Write(ByteFormat format, ref ByteTile tile, uint* target)
    {
        nint chunks = ((tile.Groups - 1) * tile.GroupChunks) + tile.LastChunks;
        switch (format)
        {
            case ByteFormat.Bits2: Bits(tile.Words, tile.Step, chunks, 2, target); break;
            case ByteFormat.Bits3: Bits3(tile.Words, tile.Step, chunks, target); break;
            case ByteFormat.Bits4: Bits(tile.Words, tile.Step, chunks, 4, target); break;
            case ByteFormat.Levels: Levels(tile, chunks, target); break;
            default: Bits8(tile.Words, tile.Step, chunks, target); break;
        }

        int steps = ByteKernels.Planes(format) * (Format(format) == ByteFormat.Words ? 2 : 1);
        tile.Words = target;
        (tile.Step, tile.GroupChunks, tile.LastChunks) = (2 * L.Count, tile.GroupChunks * steps, tile.LastChunks * steps);
        tile.FlushSteps = format switch { ByteFormat.Bits2 => 32, ByteFormat.Bits3 => 16, ByteFormat.Bits4 => 8, _ => int.MaxValue };
    }

    [MethodImpl(Hot)]
    private static void Bits(uint* words, nint step, nint chunks, int bits, uint* target)
    {
        byte mask = (byte)((1 << bits) - 1);
        for (; chunks > 0; chunks--, words += step)
        {
            B w0 = L.Load(words), w1 = L.Load(words + L.Count);
            for (int shift = 0; shift < 8; shift += bits, target += 2 * L.Count)
            {
                L.Store(L.And(L.Shift(w0, shift), mask), target);
                L.Store(L.And(L.Shift(w1, shift), mask), target + L.Count);
            }
        }
    }

    [MethodImpl(Hot)]
    private static void Bits3(uint* words, nint step, nint chunks, uint* target)
    {
        for (; chunks > 0; chunks--, words += 3 * step)
        {
            B high0 = L.Load(words + (2 * step)), high1 = L.Load(words + (2 * step) + L.Count);
            for (int half = 0; half < 2; half++)
            {
                B w0 = L.Load(words + (half * step)), w1 = L.Load(words + (half * step) + L.Count);
                for (int p = 0; p < 4; p++, target += 2 * L.Count)
                {
                    int up = p + (4 * half) - 2;
                    L.Store(L.Or(L.And(L.Shift(w0, 2 * p), 3), L.And(L.Shift(high0, up), 4)), target);
                    L.Store(L.Or(L.And(L.Shift(w1, 2 * p), 3), L.And(L.Shift(high1, up), 4)), target + L.Count);
                }
            }
        }
    }

    [MethodImpl(Hot)]
    private static void Bits8(uint* words, nint step, nint chunks, uint* target)
    {
        for (; chunks > 0; chunks--, words += step)
        {
            for (int i = 0; i < 2; i++, target += L.Count)
            {
                B w = L.Load(words + (i * L.Count));
                if (L.HasByteProducts)
                {
                    L.Store(w, target);
                }
                else
                {
                    L.Store(L.Even(w), target);
                    L.Store(L.Odd(w), target + (2 * L.Count));
                }
            }

            target += L.HasByteProducts ? 0 : 2 * L.Count;
        }
    }

    // 128·high + low.
    [MethodImpl(Hot)]
    private static void Levels(in ByteTile tile, nint chunks, uint* target)
    {
        B high = L.Table(tile.Levels), low = L.Table(tile.Levels + 16);
        uint* words = tile.Words;
        for (; chunks > 0; chunks--, words += tile.Step)
        {
            for (int shift = 0; shift < 8; shift += 4, target += 4 * L.Count)
            {
                for (int i = 0; i < 2; i++)
                {
                    B code = L.And(L.Shift(L.Load(words + (i * L.Count)), shift), 15);
                    B h = L.Lookup(high, code), l = L.Lookup(low, code);
                    L.Store(L.Or(L.Shift(L.Even(h), -7), L.Even(l)), target + (i * L.Count));
                    L.Store(L.Or(L.Shift(L.Odd(h), -7), L.Odd(l)), target + ((2 + i) * L.Count));
                }
            }
        }
    }
}
