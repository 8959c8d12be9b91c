using System.Runtime.InteropServices;
using Nibble.Tensors;

namespace Nibble.Backends;

/// <summary>Copies between the host and a backend in terms of elements instead of bytes.</summary>
public static unsafe class Transfer
{
    /// <summary>A new tensor on <paramref name="backend"/> with the elements of a host tensor.</summary>
    public static Tensor Upload(this Tensor source, IBackend backend)
    {
        Tensor target = backend.Allocate(source.Shape, source.DType);
        backend.CopyFromHost(new ReadOnlySpan<byte>(source.HostPointer, checked((int)source.ByteLength)), target);
        Operands.Hold(source);
        return target;
    }

    /// <summary>Writes host values into a tensor of the backend.</summary>
    public static void Write<T>(this IBackend backend, ReadOnlySpan<T> values, Tensor target)
        where T : unmanaged => backend.CopyFromHost(MemoryMarshal.AsBytes(values), target);

    /// <summary>Waits, then reads a tensor of the backend into host values.</summary>
    public static void Read<T>(this IBackend backend, Tensor source, Span<T> values)
        where T : unmanaged => backend.CopyToHost(source, MemoryMarshal.AsBytes(values));
}
