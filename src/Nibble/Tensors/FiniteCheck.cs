using System.Runtime.Intrinsics;
using Nibble.IO;
using Nibble.Quantization.Methods;

namespace Nibble.Tensors;

/// <summary>Finds NaN and infinity in weights: they would spread over everything that is computed from them.</summary>
public static unsafe class FiniteCheck
{
    /// <summary>The first element that is NaN or infinite, or −1; integers are always finite.</summary>
    public static nint FirstNonFinite(Tensor tensor)
    {
        nint index = Find(tensor);
        GC.KeepAlive(tensor);
        return index;
    }

    private static nint Find(Tensor tensor) => tensor.DType switch
    {
        DType.F32 => First(tensor.HostPointer, tensor.Shape.Count, (start, from, count) => FindF32((uint*)start + from, count)),
        DType.F16 => First(tensor.HostPointer, tensor.Shape.Count, (start, from, count) => Find16((ushort*)start + from, count, 0x7C00)),
        DType.BF16 => First(tensor.HostPointer, tensor.Shape.Count, (start, from, count) => Find16((ushort*)start + from, count, 0x7F80)),
        _ => -1,
    };

    private delegate nint Finder(byte* start, nint from, nint count);

    // Where a model is loaded from the file cache this is the first to touch its pages: all threads do.
    private static nint First(byte* start, nint count, Finder find)
    {
        long first = long.MaxValue;
        Spread.Over(count, 1, (from, to) =>
        {
            nint index = find(start, from, to - from);
            long found = index < 0 ? long.MaxValue : from + index, known;
            while (found < (known = Volatile.Read(ref first)) && Interlocked.CompareExchange(ref first, found, known) != known)
            {
            }
        });
        return first == long.MaxValue ? -1 : (nint)first;
    }

    /// <summary>Refuses a tensor with NaN or infinity, naming the tensor, the place and the value.</summary>
    public static void Require(Tensor tensor, string name, string source)
    {
        nint index = FirstNonFinite(tensor);
        if (index >= 0)
        {
            Throw.BadInput(
                $"{source}: tensor '{name}' has a value that is not finite",
                $"element {index:N0} of {tensor.DType} {tensor.Shape} is {Value(tensor, index)}",
                "the checkpoint is damaged, or its training diverged: use another one");
        }
    }

    private static float Value(Tensor tensor, nint index) => tensor.DType switch
    {
        DType.F32 => ((float*)tensor.HostPointer)[index],
        DType.F16 => (float)((Half*)tensor.HostPointer)[index],
        _ => TensorConvert.BF16ToF32(((ushort*)tensor.HostPointer)[index]),
    };

    private static nint FindF32(uint* bits, nint count)
    {
        const uint exponent = 0x7F80_0000;
        Vector256<uint> mask = Vector256.Create(exponent);
        nint i = 0;
        while (i <= count - Vector256<uint>.Count && !Vector256.EqualsAny(Vector256.Load(bits + i) & mask, mask))
        {
            i += Vector256<uint>.Count;
        }

        for (; i < count; i++)
        {
            if ((bits[i] & exponent) == exponent)
            {
                return i;
            }
        }

        return -1;
    }

    private static nint Find16(ushort* bits, nint count, ushort exponent)
    {
        Vector256<ushort> mask = Vector256.Create(exponent);
        nint i = 0;
        while (i <= count - Vector256<ushort>.Count && !Vector256.EqualsAny(Vector256.Load(bits + i) & mask, mask))
        {
            i += Vector256<ushort>.Count;
        }

        for (; i < count; i++)
        {
            if ((bits[i] & exponent) == exponent)
            {
                return i;
            }
        }

        return -1;
    }
}
