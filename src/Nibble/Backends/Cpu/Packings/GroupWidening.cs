using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// Widening of stored scales to floats, exact in every form: 16 at a time with 512-bit vectors, 8 without. Products of one row widen
/// the scales of each group once, so this takes as long as the group's sums if it is not wide.
/// </summary>
internal static unsafe class GroupWidening
{
    // Sign, exponent and mantissa of a half at their places in a float, and 2^112.
    private const int HalfBits = unchecked((int)0x8fffe000);
    private const float HalfBias = 5.192296858534828e33f;

    /// <summary>Widens; areFinite: no half is infinite or NaN.</summary>
    public static void Widen(DType dtype, bool areFinite, byte* source, nint count, float* destination)
    {
        switch (dtype)
        {
            case DType.U8: Bytes(source, count, destination); break;
            case DType.F16 when areFinite: FiniteHalves((ushort*)source, count, destination); break;
            case DType.F16: Halves((ushort*)source, count, destination); break;
            default: BFloats((ushort*)source, count, destination); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Bytes(byte* source, nint count, float* destination)
    {
        nint i = 0;
        for (; Avx512F.IsSupported && i <= count - 16; i += 16)
        {
            Vector512.ConvertToSingle(Avx512F.ConvertToVector512Int32(Vector128.Load(source + i))).Store(destination + i);
        }

        for (; i <= count - 8; i += 8)
        {
            Vector128<ushort> wide = Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)(source + i)).AsByte());
            Vector128.ConvertToSingle(Vector128.WidenLower(wide).AsInt32()).Store(destination + i);
            Vector128.ConvertToSingle(Vector128.WidenUpper(wide).AsInt32()).Store(destination + i + 4);
        }

        for (; i < count; i++)
        {
            destination[i] = source[i];
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void BFloats(ushort* source, nint count, float* destination)
    {
        nint i = 0;
        for (; Avx512F.IsSupported && i <= count - 16; i += 16)
        {
            Vector512.ShiftLeft(Avx512F.ConvertToVector512Int32(Vector256.Load(source + i)), 16).AsSingle().Store(destination + i);
        }

        for (; i <= count - 8; i += 8)
        {
            Vector128<ushort> bits = Vector128.Load(source + i);
            Vector128.ShiftLeft(Vector128.WidenLower(bits), 16).AsSingle().Store(destination + i);
            Vector128.ShiftLeft(Vector128.WidenUpper(bits), 16).AsSingle().Store(destination + i + 4);
        }

        for (; i < count; i++)
        {
            destination[i] = BitConverter.UInt32BitsToSingle((uint)source[i] << 16);
        }
    }

    // The sign is extended to the top, exponent and mantissa move to their place; a product corrects the exponent's bias.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FiniteHalves(ushort* source, nint count, float* destination)
    {
        nint i = 0;
        for (; Avx512F.IsSupported && i <= count - 16; i += 16)
        {
            Vector512<int> bits = Vector512.ShiftLeft(Avx512F.ConvertToVector512Int32(Vector256.Load((short*)source + i)), 13);
            ((bits & Vector512.Create(HalfBits)).AsSingle() * Vector512.Create(HalfBias)).Store(destination + i);
        }

        for (; Avx2.IsSupported && i <= count - 8; i += 8)
        {
            Vector256<int> bits = Vector256.ShiftLeft(Avx2.ConvertToVector256Int32((short*)source + i), 13);
            ((bits & Vector256.Create(HalfBits)).AsSingle() * Vector256.Create(HalfBias)).Store(destination + i);
        }

        Halves(source + i, count - i, destination + i);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Halves(ushort* source, nint count, float* destination)
    {
        nint i = 0;
        for (; i <= count - 8; i += 8)
        {
            Vector128<ushort> bits = Vector128.Load(source + i);
            Half(Vector128.WidenLower(bits)).Store(destination + i);
            Half(Vector128.WidenUpper(bits)).Store(destination + i + 4);
        }

        for (; i < count; i++)
        {
            destination[i] = (float)((Half*)source)[i];
        }
    }

    // As in Lanes256: the exponent's bias is corrected by a product, which is exact, also for subnormal halves.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Half(Vector128<uint> half)
    {
        Vector128<uint> sign = Vector128.ShiftLeft(half & Vector128.Create(0x8000u), 16);
        Vector128<uint> magnitude = Vector128.ShiftLeft(half & Vector128.Create(0x7fffu), 13);
        Vector128<uint> special = Vector128.GreaterThan(magnitude.AsInt32(), Vector128.Create(0x0f7fffff)).AsUInt32() & Vector128.Create(0x7f800000u);
        return ((magnitude.AsSingle() * Vector128.Create(HalfBias)).AsUInt32() | special | sign).AsSingle();
    }
}
