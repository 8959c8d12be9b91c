using System.Runtime.CompilerServices;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>One lane: four codes in a word. The reference of the other variants.</summary>
internal readonly unsafe struct Bytes1 : IByteLanes<Bytes1.Lane, float>
{
    public static int Count => 1;

    public static bool HasByteProducts => true;

    public static Lane Zero => default;

    public static Lane Load(uint* words) => new((int)*words);

    public static void Store(Lane value, uint* words) => *words = (uint)value.Value;

    public static void Prefetch(uint* address)
    {
    }

    public static Lane Broadcast(int bytes) => new(bytes);

    public static Lane Table(byte* table)
    {
        Lane lane = default;
        new Span<byte>(table, 16).CopyTo(new Span<byte>(lane.Bytes, 16));
        return lane;
    }

    public static Lane And(Lane a, byte mask) => new(a.Value & (mask * 0x01010101));

    public static Lane Even(Lane bytes) => new(bytes.Value & 0x00ff00ff);

    public static Lane Odd(Lane bytes) => new((bytes.Value >>> 8) & 0x00ff00ff);

    public static Lane Or(Lane a, Lane b) => new(a.Value | b.Value);

    public static Lane Shift(Lane a, int count) => new(count >= 0 ? (int)((uint)a.Value >> count) : a.Value << -count);

    public static Lane Lookup(Lane table, Lane index)
    {
        int result = 0;
        for (int i = 0; i < 4; i++)
        {
            result |= table.Bytes[(index.Value >> (8 * i)) & 15] << (8 * i);
        }

        return new(result);
    }

    public static Lane AddSmall(Lane small, Lane codes, Lane x) => AddByte(small, codes, x);

    public static Lane Flush(Lane sum, Lane small) => new(sum.Value + small.Value);

    public static Lane Field(Lane words, int shift, byte mask) => And(Shift(words, shift), mask);

    public static Lane FlushField(Lane sum, Lane small, int shift) => Flush(sum, small);

    public static Lane AddShifted(Lane a, Lane b, int shift) => new(a.Value + (b.Value << shift));

    public static Lane AddSeven(Lane sum, Lane codes, Lane x) => AddByte(sum, codes, x);

    public static Lane AddByte(Lane sum, Lane codes, Lane x)
    {
        int result = sum.Value;
        for (int shift = 0; shift < 32; shift += 8)
        {
            result += (byte)(codes.Value >> shift) * (sbyte)(x.Value >> shift);
        }

        return new(result);
    }

    public static Lane AddWide(Lane sum, Lane high, Lane low, Lane x) =>
        new(AddByte(sum, low, x).Value + (128 * AddByte(default, high, x).Value));

    public static Lane RestoreBytes(Lane sum, Lane n) => sum;

    public static Lane AddPairs(Lane sum, Lane words, Lane x) =>
        new(sum.Value + ((short)words.Value * (short)x.Value) + ((words.Value >> 16) * (x.Value >> 16)));

    public static Lane SubtractProduct(Lane sum, float factor, Lane n) => new(sum.Value - ((int)factor * n.Value));

    public static float ToFloat(Lane sum) => sum.Value;

    /// <summary>One lane; as a table it has 16 bytes.</summary>
    internal struct Lane
    {
        public fixed byte Bytes[16];

        public Lane(int value) => Value = value;

        public int Value
        {
            readonly get => Unsafe.ReadUnaligned<int>(in Bytes[0]);
            set => Unsafe.WriteUnaligned(ref Bytes[0], value);
        }
    }
}
