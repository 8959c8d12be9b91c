using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>Puts codes, one a byte, into the words of <see cref="CodePanels"/>: a part is a panel.</summary>
internal unsafe struct CodePacker : ICpuJob
{
    public CodePanels Target;
    public byte* Codes;

    /// <summary>The largest code of each panel.</summary>
    public byte[] Largest;

    public readonly void Execute(int part)
    {
        nint first = part * (nint)Target.Lanes, last = nint.Min(Target.Rows, first + Target.Lanes);
        for (nint row = first; row < last; row++)
        {
            byte* codes = Codes + (row * Target.Columns);
            Largest[part] = Math.Max(Largest[part], Most(codes, Target.Columns));
            Pack(codes, Target.Panel(part) + (row - first));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Pack(byte* codes, uint* word)
    {
        int bits = Target.Bits, lanes = Target.Lanes, chunk = Target.ChunkColumns;
        nint left = Target.Columns;
        for (; left >= chunk && Bmi2.X64.IsSupported; left -= chunk, codes += chunk, word += Target.ChunkWords * lanes)
        {
            switch (bits)
            {
                case 8: *word = *(uint*)codes; break;
                case 4: *word = (uint)Bmi2.X64.ParallelBitExtract(*(ulong*)codes, 0x0f0f0f0f0f0f0f0f); break;
                case 2: *word = Pairs(codes); break;
                default: PackThree(codes, word, lanes); break;
            }
        }

        for (; left > 0; left -= chunk, codes += chunk, word += Target.ChunkWords * lanes)
        {
            PackOneByOne(codes, (int)nint.Min(chunk, left), word);
        }
    }

    private static void PackThree(byte* codes, uint* word, int lanes)
    {
        word[0] = Pairs(codes);
        word[lanes] = Pairs(codes + 16);
        word[2 * lanes] = Highs(codes) | (Highs(codes + 16) << 4);
    }

    // The low two bits of 16 codes.
    private static uint Pairs(byte* codes) =>
        (uint)Bmi2.X64.ParallelBitExtract(*(ulong*)codes, 0x0303030303030303)
        | ((uint)Bmi2.X64.ParallelBitExtract(*(ulong*)(codes + 8), 0x0303030303030303) << 16);

    // The third bits of 16 codes, four to the lower half of each byte.
    private static uint Highs(byte* codes)
    {
        uint bits = (uint)Bmi2.X64.ParallelBitExtract(*(ulong*)codes, 0x0404040404040404)
            | ((uint)Bmi2.X64.ParallelBitExtract(*(ulong*)(codes + 8), 0x0404040404040404) << 16);
        return (bits & 0x000f000f) | ((bits & 0x00f000f0) << 4);
    }

    private readonly void PackOneByOne(byte* codes, int count, uint* word)
    {
        int bits = Target.Bits, lanes = Target.Lanes;
        for (int j = 0; j < count; j++)
        {
            if (bits == 3)
            {
                word[j / 16 * lanes] |= (codes[j] & 3u) << (2 * (j % 16));
                word[2 * lanes] |= (uint)(codes[j] >> 2) << CodePanels.HighBit(j);
            }
            else
            {
                *word |= (uint)codes[j] << (bits * j);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static byte Most(byte* codes, nint count)
    {
        Vector128<byte> largest = default;
        nint i = 0;
        for (; i <= count - 16; i += 16)
        {
            largest = Vector128.Max(largest, Vector128.Load(codes + i));
        }

        byte most = 0;
        for (int j = 0; j < 16; j++)
        {
            most = Math.Max(most, largest[j]);
        }

        for (; i < count; i++)
        {
            most = Math.Max(most, codes[i]);
        }

        return most;
    }
}
