using System.Runtime.Intrinsics;
using Nibble.IO;

namespace Nibble.Tensors;

/// <summary>
/// Conversion between F32 and the two 16-bit formats: round to nearest, ties to even; NaN stays NaN, overflow becomes infinity,
/// subnormal numbers are exact. The same bits on every machine: the arithmetic is on integers.
/// </summary>
public static unsafe class TensorConvert
{
    private const uint Infinity32 = 0x7F80_0000;

    /// <summary>A copy of a floating point tensor in host memory with another element type.</summary>
    public static Tensor To(this Tensor source, DType dtype)
    {
        Tensor target = Tensor.OnHost(source.Shape, dtype);
        Copy(source, target);
        return target;
    }

    /// <summary>Writes the numbers of one floating point tensor into another, of the same number of elements.</summary>
    public static void Copy(Tensor source, Tensor target)
    {
        if (source.Shape.Count != target.Shape.Count || !source.DType.IsFloat() || !target.DType.IsFloat())
        {
            Throw.Argument("convert", $"{source.DType} {source.Shape} to {target.DType} {target.Shape}");
        }

        nint count = source.Shape.Count;
        if (source.DType == target.DType)
        {
            Buffer.MemoryCopy(source.HostPointer, target.HostPointer, target.ByteLength, source.ByteLength);
            Backends.Operands.Hold(source, target);
            return;
        }

        if (source.DType != DType.F32 && target.DType != DType.F32)
        {
            using Tensor wide = source.To(DType.F32);
            Copy(wide, target);
            return;
        }

        switch (source.DType, target.DType)
        {
            case (DType.BF16, _):
                BF16ToF32((ushort*)source.HostPointer, (float*)target.HostPointer, count);
                break;
            case (DType.F16, _):
                F16ToF32((ushort*)source.HostPointer, (float*)target.HostPointer, count);
                break;
            case (_, DType.BF16):
                F32ToBF16((float*)source.HostPointer, (ushort*)target.HostPointer, count);
                break;
            default:
                F32ToF16((float*)source.HostPointer, (ushort*)target.HostPointer, count);
                break;
        }

        Backends.Operands.Hold(source, target);
    }

    /// <summary>bfloat16 bits to F32.</summary>
    public static void BF16ToF32(ReadOnlySpan<ushort> source, Span<float> target)
    {
        CheckLengths(source.Length, target.Length);
        fixed (ushort* from = source)
        fixed (float* to = target)
        {
            BF16ToF32(from, to, source.Length);
        }
    }

    /// <summary>F32 to bfloat16 bits.</summary>
    public static void F32ToBF16(ReadOnlySpan<float> source, Span<ushort> target)
    {
        CheckLengths(source.Length, target.Length);
        fixed (float* from = source)
        fixed (ushort* to = target)
        {
            F32ToBF16(from, to, source.Length);
        }
    }

    /// <summary>Half precision bits to F32.</summary>
    public static void F16ToF32(ReadOnlySpan<ushort> source, Span<float> target)
    {
        CheckLengths(source.Length, target.Length);
        fixed (ushort* from = source)
        fixed (float* to = target)
        {
            F16ToF32(from, to, source.Length);
        }
    }

    /// <summary>F32 to half precision bits.</summary>
    public static void F32ToF16(ReadOnlySpan<float> source, Span<ushort> target)
    {
        CheckLengths(source.Length, target.Length);
        fixed (float* from = source)
        fixed (ushort* to = target)
        {
            F32ToF16(from, to, source.Length);
        }
    }

    /// <summary>bfloat16 bits to F32.</summary>
    public static void BF16ToF32(ushort* source, float* target, nint count)
    {
        nint i = 0;
        for (; i <= count - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.Load(source + i));
            (low << 16).AsSingle().Store(target + i);
            (high << 16).AsSingle().Store(target + i + Vector256<uint>.Count);
        }

        for (; i < count; i++)
        {
            target[i] = BF16ToF32(source[i]);
        }
    }

    /// <summary>F32 to bfloat16 bits.</summary>
    public static void F32ToBF16(float* source, ushort* target, nint count)
    {
        nint i = 0;
        for (; i <= count - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            Vector256<uint> low = RoundBF16(Vector256.Load((uint*)source + i));
            Vector256<uint> high = RoundBF16(Vector256.Load((uint*)source + i + Vector256<uint>.Count));
            Vector256.Narrow(low, high).Store(target + i);
        }

        for (; i < count; i++)
        {
            target[i] = F32ToBF16(source[i]);
        }
    }

    /// <summary>Half precision bits to F32.</summary>
    public static void F16ToF32(ushort* source, float* target, nint count)
    {
        nint i = 0;
        for (; i <= count - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.Load(source + i));
            WidenF16(low).Store(target + i);
            WidenF16(high).Store(target + i + Vector256<uint>.Count);
        }

        for (; i < count; i++)
        {
            target[i] = (float)BitConverter.UInt16BitsToHalf(source[i]);
        }
    }

    /// <summary>F32 to half precision bits.</summary>
    public static void F32ToF16(float* source, ushort* target, nint count)
    {
        nint i = 0;
        for (; i <= count - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            Vector256<uint> low = RoundF16(Vector256.Load((uint*)source + i));
            Vector256<uint> high = RoundF16(Vector256.Load((uint*)source + i + Vector256<uint>.Count));
            Vector256.Narrow(low, high).Store(target + i);
        }

        for (; i < count; i++)
        {
            target[i] = BitConverter.HalfToUInt16Bits((Half)source[i]);
        }
    }

    /// <summary>One bfloat16 as F32.</summary>
    public static float BF16ToF32(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

    /// <summary>One F32 as bfloat16 bits.</summary>
    public static ushort F32ToBF16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        // Rounding could carry a NaN's payload into infinity, so a NaN is cut and made quiet.
        return (bits & 0x7FFF_FFFF) > Infinity32
            ? (ushort)((bits >> 16) | 0x40)
            : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    private static Vector256<uint> RoundBF16(Vector256<uint> bits)
    {
        Vector256<uint> nan = Vector256.GreaterThan(bits & Vector256.Create(0x7FFF_FFFFu), Vector256.Create(Infinity32));
        Vector256<uint> rounded = (bits + Vector256.Create(0x7FFFu) + ((bits >> 16) & Vector256<uint>.One)) >> 16;
        return Vector256.ConditionalSelect(nan, (bits >> 16) | Vector256.Create(0x40u), rounded);
    }

    /// <summary>Shifts the fields into place, then one multiplication by 2^112 corrects the exponent, subnormals included.</summary>
    private static Vector256<float> WidenF16(Vector256<uint> bits)
    {
        Vector256<uint> sign = (bits & Vector256.Create(0x8000u)) << 16;
        Vector256<uint> magnitude = (bits & Vector256.Create(0x7FFFu)) << 13;
        Vector256<uint> value = (magnitude.AsSingle() * Vector256.Create(0x7780_0000u).AsSingle()).AsUInt32();
        Vector256<uint> special = Vector256.GreaterThanOrEqual(magnitude, Vector256.Create(31u << 23)) & Vector256.Create(Infinity32);
        return (value | special | sign).AsSingle();
    }

    /// <summary>
    /// Normal numbers: re-bias the exponent and round on the integer. Small ones: adding 0.5 lets the processor's adder align and
    /// round the mantissa to half's subnormal step. Large ones: infinity.
    /// </summary>
    private static Vector256<uint> RoundF16(Vector256<uint> bits)
    {
        Vector256<uint> sign = bits & Vector256.Create(0x8000_0000u);
        Vector256<uint> x = bits ^ sign;
        Vector256<uint> half = Vector256.Create((127u - 15 + (23 - 10) + 1) << 23);
        Vector256<uint> small = (x.AsSingle() + half.AsSingle()).AsUInt32() - half;
        Vector256<uint> odd = (x >> 13) & Vector256<uint>.One;
        Vector256<uint> normal = (x - Vector256.Create((127u - 15) << 23) + Vector256.Create(0xFFFu) + odd) >> 13;
        Vector256<uint> nan = Vector256.Create(0x7E00u) | ((x >> 13) & Vector256.Create(0x3FFu));
        Vector256<uint> large = Vector256.ConditionalSelect(Vector256.GreaterThan(x, Vector256.Create(Infinity32)), nan, Vector256.Create(0x7C00u));
        Vector256<uint> result = Vector256.ConditionalSelect(Vector256.LessThan(x, Vector256.Create(113u << 23)), small, normal);
        result = Vector256.ConditionalSelect(Vector256.GreaterThanOrEqual(x, Vector256.Create((127u + 16) << 23)), large, result);
        return result | (sign >> 16);
    }

    private static void CheckLengths(int source, int target)
    {
        if (source != target)
        {
            Throw.Argument("convert", $"{source} numbers into {target}");
        }
    }
}
