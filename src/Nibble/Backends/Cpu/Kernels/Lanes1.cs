namespace Nibble.Backends.Cpu.Kernels;

/// <summary>A "vector" of one float: the scalar variant.</summary>
internal readonly unsafe struct Lanes1 : ILanes<float>
{
    public static int Count => 1;

    public static float Zero => 0;

    public static float Set(float value) => value;

    public static float Load(float* source) => *source;

    public static void Store(float value, float* destination) => *destination = value;

    public static float Add(float a, float b) => a + b;

    public static float Subtract(float a, float b) => a - b;

    public static float Multiply(float a, float b) => a * b;

    public static float Divide(float a, float b) => a / b;

    // A fused product in software would be some fifty times slower than two roundings.
    public static float MultiplyAdd(float a, float b, float c) => (a * b) + c;

    public static float Max(float a, float b) => a > b ? a : b;

    public static float Min(float a, float b) => a < b ? a : b;

    public static float Abs(float a) => MathF.Abs(a);

    public static float Sqrt(float a) => MathF.Sqrt(a);

    public static float Round(float a) => MathF.Round(a);

    public static float PowerOfTwo(float exponent) =>
        float.IsNaN(exponent) ? exponent : BitConverter.Int32BitsToSingle(((int)exponent + 127) << 23);

    public static float IfLess(float a, float b, float yes, float no) => a < b ? yes : no;

    public static float Sum(float a) => a;

    public static float Largest(float a) => a;

    public static float BFloat16First(ushort* source) => BitConverter.UInt32BitsToSingle((uint)source[0] << 16);

    public static float BFloat16Second(ushort* source) => BitConverter.UInt32BitsToSingle((uint)source[1] << 16);

    public static float HalfFirst(ushort* source) => (float)BitConverter.UInt16BitsToHalf(source[0]);

    public static float HalfSecond(ushort* source) => (float)BitConverter.UInt16BitsToHalf(source[1]);

    public static float FiniteHalfFirst(ushort* source) => HalfFirst(source);

    public static float FiniteHalfSecond(ushort* source) => HalfSecond(source);

    public static float LoadBits(uint* source) => BitConverter.UInt32BitsToSingle(*source);

    public static float ShiftBits(float bits, int count) => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(bits) >> count);

    public static float MergeBits(float low, float high) => BitConverter.UInt32BitsToSingle(
        (BitConverter.SingleToUInt32Bits(low) & 3) | ((BitConverter.SingleToUInt32Bits(high) & 1) << 2));

    public static float Field(float bits, uint mask) => BitConverter.SingleToUInt32Bits(bits) & mask;

    public static float Lookup(float bits, float* table) => table[BitConverter.SingleToUInt32Bits(bits) & 15];
}
