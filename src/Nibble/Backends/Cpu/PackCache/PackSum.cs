using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Nibble.Backends.Cpu.PackCache;

/// <summary>
/// A check sum at the speed of memory: two running sums over 64-bit lanes, so that a changed, lost or moved word shows. It finds damage;
/// against somebody who may write to the folder of a model nothing here protects.
/// </summary>
internal static unsafe class PackSum
{
    /// <summary>Bytes that one part of a longer sum covers.</summary>
    public const int Chunk = 1 << 20;

    /// <summary>The sum of a block: its chunks' sums, in their order.</summary>
    public static ulong Of(byte* data, nint length)
    {
        ulong sum = Start(length);
        for (nint at = 0; at < length; at += Chunk)
        {
            sum = Join(sum, OfChunk(data + at, (int)nint.Min(Chunk, length - at)));
        }

        return sum;
    }

    /// <summary>The sum of managed bytes.</summary>
    public static ulong Of(ReadOnlySpan<byte> data)
    {
        fixed (byte* pointer = data)
        {
            return Of(pointer, data.Length);
        }
    }

    /// <summary>The sum of a block without chunks.</summary>
    public static ulong Start(nint length) => Mix((ulong)length + 1);

    /// <summary>The sum of a block and its next chunk.</summary>
    public static ulong Join(ulong sum, ulong chunk) => Mix((sum * 0x9e3779b97f4a7c15) + chunk);

    /// <summary>The sum of at most <see cref="Chunk"/> bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static ulong OfChunk(byte* data, int length)
    {
        Vector256<ulong> a = default, b = default, c = default, d = default;
        int i = 0;
        for (; i <= length - 64; i += 64)
        {
            a += Vector256.Load((ulong*)(data + i));
            b += a;
            c += Vector256.Load((ulong*)(data + i + 32));
            d += c;
        }

        ulong sum = 0;
        for (; i < length; i++)
        {
            sum = Join(sum, data[i]);
        }

        for (int lane = 0; lane < 4; lane++)
        {
            sum = Join(Join(Join(Join(sum, a[lane]), b[lane]), c[lane]), d[lane]);
        }

        return sum;
    }

    private static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
        value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
        return value ^ (value >> 31);
    }
}
