using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.Packings;
using Bytes = System.Runtime.Intrinsics.Vector512<byte>;
using L = Nibble.Backends.Cpu.Packings.Bytes512;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Codes of a panel as AMX tiles read them: lines of 4 columns of 32 rows, 16 lines a step, each group filled with zeros up to whole steps. Where offsets are
/// whole numbers that leave codes in a signed byte, they are taken off here, once, instead of from every sum.
/// </summary>
internal static unsafe class AmxCodes
{
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;
    private const int Lanes = 32, Lines = 16, ChunkColumns = 4;

    // −112 + 15 and 15 + 112 are signed bytes.
    private const float MostOffset = 112;

    /// <summary>Room that <see cref="Write"/> needs.</summary>
    public static nint Words(ByteFormat format, nint chunks, nint groups) =>
        ((chunks * ByteKernels.Planes(format)) + (groups * Lines)) * Lanes * (format == ByteFormat.Levels ? 2 : 1);

    /// <summary>True if codes less their offsets are signed bytes (levels: two of them).</summary>
    public static bool CanBeSigned(ByteFormat format, in ByteTile tile)
    {
        if (format is ByteFormat.Bits8 or ByteFormat.Levels)
        {
            return format == ByteFormat.Levels;
        }

        Vector512<float> most = default;
        nint count = tile.OffsetStride == 0 ? Lanes : tile.Groups * Lanes;
        for (nint i = 0; i < count; i += Vector512<float>.Count)
        {
            most = Vector512.Max(most, Vector512.Abs(Vector512.Load(tile.Offsets + i)));
        }

        return Vector512.LessThanOrEqualAll(most, Vector512.Create(MostOffset));
    }

    /// <summary>Decodes, and lets the tile read the result; 8-bit codes stay where they are if their groups are whole steps.</summary>
    public static void Write(ByteFormat format, ref ByteTile tile, uint* target)
    {
        int lines = ByteKernels.Planes(format);
        nint groupLines = tile.GroupChunks * lines, lastLines = tile.LastChunks * lines;
        nint steps = Steps(groupLines);
        tile.XSkip = ChunkColumns * (groupLines - (steps * Lines));
        if (format != ByteFormat.Bits8 || lastLines % Lines != 0 || (tile.Groups > 1 && groupLines % Lines != 0))
        {
            WriteGroups(format, tile, target);
            tile.Words = target;
        }

        (tile.GroupChunks, tile.LastChunks) = (steps, Steps(lastLines));
    }

    private static nint Steps(nint lines) => (lines + Lines - 1) / Lines;

    [MethodImpl(Hot)]
    private static void WriteGroups(ByteFormat format, in ByteTile tile, uint* target)
    {
        uint* words = tile.Words;
        float* offsets = tile.Offsets;
        bool isSigned = tile.Form == MachineOffsets.None;
        LevelTables levels = format == ByteFormat.Levels ? new(tile) : default;
        int planes = ByteKernels.Planes(format), chunkVectors = format == ByteFormat.Bits3 ? 3 : 1;
        for (nint group = 0; group < tile.Groups; group++, offsets += tile.OffsetStride)
        {
            nint chunks = group == tile.Groups - 1 ? tile.LastChunks : tile.GroupChunks, lines = chunks * planes;
            Bytes offset0 = isSigned ? Offset(offsets) : default, offset1 = isSigned ? Offset(offsets + L.Count) : default;
            switch (format)
            {
                case ByteFormat.Bits2: Bits(words, tile.Step, chunks, 2, offset0, offset1, target); break;
                case ByteFormat.Bits3: Bits3(words, tile.Step, chunks, offset0, offset1, target); break;
                case ByteFormat.Bits4: Bits(words, tile.Step, chunks, 4, offset0, offset1, target); break;
                case ByteFormat.Levels: levels.Write(words, tile.Step, chunks, target); break;
                default: Copy(words, checked((int)(chunks * Lanes)), target); break;
            }

            words += chunks * chunkVectors * tile.Step;
            nint filled = Steps(lines) * Lines;
            if (format != ByteFormat.Levels)
            {
                new Span<uint>(target + (lines * Lanes), (int)((filled - lines) * Lanes)).Clear();
            }

            target += filled * Lanes * (format == ByteFormat.Levels ? 2 : 1);
        }
    }

    /// <summary>8-bit codes stand in memory as tiles read them: a step is <see cref="Lanes"/> words there too.</summary>
    private static void Copy(uint* words, int count, uint* target) => new Span<uint>(words, count).CopyTo(new Span<uint>(target, count));

    /// <summary>The offset of each lane in each of its four bytes.</summary>
    private static Bytes Offset(float* offsets) =>
        ((Vector512.ConvertToInt32(Vector512.Load(offsets)) & Vector512.Create(0xff)) * 0x01010101).AsByte();

    [MethodImpl(Hot)]
    private static void Bits(uint* words, nint step, nint chunks, int bits, Bytes offset0, Bytes offset1, uint* target)
    {
        byte mask = (byte)((1 << bits) - 1);
        for (; chunks > 0; chunks--, words += step)
        {
            Bytes w0 = L.Load(words), w1 = L.Load(words + L.Count);
            for (int shift = 0; shift < 8; shift += bits, target += Lanes)
            {
                L.Store(L.And(L.Shift(w0, shift), mask) - offset0, target);
                L.Store(L.And(L.Shift(w1, shift), mask) - offset1, target + L.Count);
            }
        }
    }

    [MethodImpl(Hot)]
    private static void Bits3(uint* words, nint step, nint chunks, Bytes offset0, Bytes offset1, uint* target)
    {
        for (; chunks > 0; chunks--, words += 3 * step)
        {
            Bytes high0 = L.Load(words + (2 * step)), high1 = L.Load(words + (2 * step) + L.Count);
            for (int half = 0; half < 2; half++)
            {
                Bytes w0 = L.Load(words + (half * step)), w1 = L.Load(words + (half * step) + L.Count);
                for (int p = 0; p < 4; p++, target += Lanes)
                {
                    int up = p + (4 * half) - 2;
                    L.Store(L.Or(L.And(L.Shift(w0, 2 * p), 3), L.And(L.Shift(high0, up), 4)) - offset0, target);
                    L.Store(L.Or(L.And(L.Shift(w1, 2 * p), 3), L.And(L.Shift(high1, up), 4)) - offset1, target + L.Count);
                }
            }
        }
    }

    /// <summary>Levels of 14 bits less their offset, as 128·high + low: both are signed bytes.</summary>
    private readonly struct LevelTables
    {
        private readonly Bytes _high;
        private readonly Bytes _low;

        public LevelTables(in ByteTile tile)
        {
            byte* tables = stackalloc byte[32];
            int offset = (int)*tile.Offsets;
            for (int i = 0; i < 16; i++)
            {
                int level = (tile.Levels[i] << 7) + tile.Levels[16 + i] - offset;
                (tables[i], tables[16 + i]) = ((byte)(level >> 7), (byte)(level & 127));
            }

            (_high, _low) = (L.Table(tables), L.Table(tables + 16));
        }

        /// <summary>16 lines of high bytes, then 16 of low ones, and so on; zeros up to whole steps.</summary>
        [MethodImpl(Hot)]
        public void Write(uint* words, nint step, nint chunks, uint* target)
        {
            nint lines = 2 * chunks, filled = Steps(lines) * Lines;
            for (nint line = 0; line < filled; line++)
            {
                uint* high = target + (((2 * line) - (line % Lines)) * Lanes), low = high + (Lines * Lanes);
                for (int i = 0; i < 2; i++, high += L.Count, low += L.Count)
                {
                    if (line >= lines)
                    {
                        L.Store(default, high);
                        L.Store(default, low);
                        continue;
                    }

                    Bytes code = L.And(L.Shift(L.Load(words + (line / 2 * step) + (i * L.Count)), line % 2 == 0 ? 0 : 4), 15);
                    L.Store(L.Lookup(_high, code), high);
                    L.Store(L.Lookup(_low, code), low);
                }
            }
        }
    }
}
