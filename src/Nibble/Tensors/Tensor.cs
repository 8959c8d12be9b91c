using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Nibble.Tensors;

/// <summary>
/// A shape, an element type and an offset over a <see cref="Storage"/>; row-major and contiguous. The elements live where the
/// storage lives: reading them from the processor is explicit (<see cref="HostSpan{T}"/>, or a copy through the backend).
/// </summary>
[DebuggerDisplay("{DType} {Shape}")]
public sealed unsafe class Tensor : IDisposable
{
    private readonly bool _ownsStorage;

    /// <summary>Creates a tensor over <paramref name="storage"/>, from byte <paramref name="byteOffset"/> on.</summary>
    /// <exception cref="ArgumentException">The elements would not lie inside the storage.</exception>
    public Tensor(Shape shape, DType dtype, Storage storage, nint byteOffset = 0, bool ownsStorage = true)
    {
        nint bytes = checked(shape.Count * dtype.Size());
        if (byteOffset < 0 || bytes > storage.ByteLength - byteOffset)
        {
            throw new ArgumentException(
                $"tensor: {dtype} {shape} needs {bytes:N0} bytes from offset {byteOffset:N0}, the storage has {storage.ByteLength:N0}");
        }

        Shape = shape;
        DType = dtype;
        Storage = storage;
        ByteOffset = byteOffset;
        _ownsStorage = ownsStorage;
    }

    /// <summary>The extents, outermost first.</summary>
    public Shape Shape { get; }

    /// <summary>The element type.</summary>
    public DType DType { get; }

    /// <summary>Where the elements live.</summary>
    public Storage Storage { get; }

    /// <summary>First byte of the tensor inside <see cref="Storage"/>.</summary>
    public nint ByteOffset { get; }

    /// <summary>Bytes of all elements.</summary>
    public nint ByteLength => Shape.Count * DType.Size();

    /// <summary>True if the processor can read the elements without a copy.</summary>
    public bool IsOnHost => Storage is HostStorage;

    /// <summary>First element, for kernels of the CPU backend. It does not keep the tensor: see <see cref="HostSpan{T}"/>.</summary>
    /// <exception cref="InvalidOperationException">The tensor lives on a device.</exception>
    public byte* HostPointer => Storage is HostStorage host
        ? host.Pointer + ByteOffset
        : throw new InvalidOperationException($"tensor {DType} {Shape} is on a device: copy it to the host first (IBackend.CopyToHost)");

    /// <summary>A tensor in native host memory, zeroed.</summary>
    public static Tensor OnHost(Shape shape, DType dtype) =>
        new(shape, dtype, new NativeStorage(checked(shape.Count * dtype.Size())));

    /// <summary>A tensor in native host memory with a copy of <paramref name="values"/>.</summary>
    /// <exception cref="ArgumentException">The number of values is not the shape's.</exception>
    public static Tensor From<T>(Shape shape, DType dtype, ReadOnlySpan<T> values)
        where T : unmanaged
    {
        if (values.Length != shape.Count || Unsafe.SizeOf<T>() != dtype.Size())
        {
            throw new ArgumentException($"tensor: {values.Length} values of {Unsafe.SizeOf<T>()} bytes for {dtype} {shape}");
        }

        Tensor tensor = OnHost(shape, dtype);
        values.CopyTo(tensor.HostSpan<T>());
        return tensor;
    }

    /// <summary>
    /// The elements as a span; at most 2 GiB at a time (use <see cref="HostPointer"/> beyond). A span of native memory does not keep the tensor:
    /// if nothing else does, a collection may free the elements while they are read. Hold the tensor with <c>using</c>, or call
    /// <see cref="GC.KeepAlive"/> after the last access. Ops and copies of this library hold their operands until they end.
    /// </summary>
    /// <exception cref="InvalidOperationException">The tensor lives on a device, or <typeparamref name="T"/> has another size.</exception>
    public Span<T> HostSpan<T>()
        where T : unmanaged
    {
        if (Unsafe.SizeOf<T>() != DType.Size())
        {
            throw new InvalidOperationException($"tensor {DType} {Shape} read as elements of {Unsafe.SizeOf<T>()} bytes");
        }

        return new Span<T>(HostPointer, checked((int)Shape.Count));
    }

    /// <summary>Another shape over the same elements; it does not own the storage.</summary>
    /// <exception cref="ArgumentException">The number of elements differs.</exception>
    public Tensor Reshape(Shape shape) => shape.Count == Shape.Count
        ? new Tensor(shape, DType, Storage, ByteOffset, ownsStorage: false)
        : throw new ArgumentException($"reshape: {Shape} has {Shape.Count} elements, {shape} has {shape.Count}");

    /// <summary>Rows <paramref name="start"/> … of the outermost dimension, as a view that does not own the storage.</summary>
    public Tensor Slice(nint start, nint length)
    {
        if (Shape.Rank == 0 || start < 0 || length < 0 || start + length > Shape[0])
        {
            throw new ArgumentException($"slice: rows {start} to {start + length} of {Shape}");
        }

        nint[] extents = Shape.ToArray();
        nint rowBytes = extents[0] == 0 ? 0 : ByteLength / extents[0];
        extents[0] = length;
        return new Tensor(new Shape(extents), DType, Storage, ByteOffset + start * rowBytes, ownsStorage: false);
    }

    /// <summary>Frees the storage if this tensor owns it.</summary>
    public void Dispose()
    {
        if (_ownsStorage)
        {
            Storage.Dispose();
        }
    }
}
