using Nibble.Backends;

namespace Nibble.Tensors;

/// <summary>
/// Buffers of F32 that are used again and again. A request takes the smallest free buffer of at least its size, if that is at most
/// twice as large; batches of many different lengths so share a few buffers instead of having a set for each length. A card has an allocator
/// that does so for everything on it: its buffers are given back at once.
/// </summary>
internal sealed class BufferPool(IBackend backend) : IDisposable
{
    private readonly Backends.Cuda.CudaBackend? _device = backend as Backends.Cuda.CudaBackend;
    private readonly SortedDictionary<nint, Stack<Tensor>> _free = [];
    private readonly Dictionary<Storage, Tensor> _used = [];
    private long _bytes;

    /// <summary>Most bytes that all buffers have taken at once.</summary>
    public long PeakBytes { get; private set; }

    /// <summary>A buffer of F32 or BF16.</summary>
    public Tensor Rent(Shape shape, bool zeroed, DType dtype = DType.F32)
    {
        nint count = ((shape.Count * dtype.Size()) + sizeof(float) - 1) / sizeof(float);
        Tensor? buffer = TakeFree(size => size >= count && size <= 2 * count, first: true);
        bool fresh = buffer is null && _device is null;
        buffer ??= Allocate(count);
        _used.Add(buffer.Storage, buffer);
        Tensor rented = new(shape, dtype, buffer.Storage, buffer.ByteOffset, ownsStorage: false);
        if (zeroed && !fresh)
        {
            backend.Gradients.Fill(rented, 0);
        }

        return rented;
    }

    /// <summary>A buffer with the values of another tensor.</summary>
    public Tensor Copy(Tensor source)
    {
        Tensor copy = Rent(source.Shape, zeroed: false, source.DType);
        backend.Gradients.Copy(source, copy);
        return copy;
    }

    /// <summary>Gives a buffer back.</summary>
    public void Return(Tensor tensor)
    {
        if (!_used.Remove(tensor.Storage, out Tensor? buffer))
        {
            throw new InvalidOperationException($"buffer pool: {tensor.Shape} was given back twice, or is of another pool");
        }

        if (_device is not null)
        {
            _bytes -= buffer.ByteLength;
            buffer.Dispose();
            return;
        }

        if (!_free.TryGetValue(buffer.Shape.Count, out Stack<Tensor>? stack))
        {
            _free.Add(buffer.Shape.Count, stack = new Stack<Tensor>());
        }

        stack.Push(buffer);
    }

    /// <summary>Frees all buffers.</summary>
    public void Dispose()
    {
        foreach (Tensor buffer in _free.Values.SelectMany(stack => stack).Concat(_used.Values))
        {
            buffer.Dispose();
        }

        _free.Clear();
        _used.Clear();
        _bytes = 0;
    }

    /// <summary>A new buffer, in the place of a free one that is a little too small: whatever that could hold fits the new one.</summary>
    private Tensor Allocate(nint count)
    {
        if (TakeFree(size => size < count && 2 * size >= count, first: false) is { } outgrown)
        {
            _bytes -= outgrown.ByteLength;
            outgrown.Dispose();
        }

        Tensor buffer = _device?.AllocateUndefined(new Shape(count), DType.F32) ?? backend.Allocate(new Shape(count), DType.F32);
        _bytes += buffer.ByteLength;
        PeakBytes = Math.Max(PeakBytes, _bytes);
        return buffer;
    }

    /// <summary>Takes the smallest (<paramref name="first"/>) or largest free buffer of a fitting size; null if there is none.</summary>
    private Tensor? TakeFree(Func<nint, bool> fits, bool first)
    {
        nint found = 0;
        foreach ((nint size, Stack<Tensor> stack) in _free)
        {
            if (stack.Count > 0 && fits(size))
            {
                found = size;
                if (first)
                {
                    break;
                }
            }
        }

        return found == 0 ? null : _free[found].Pop();
    }
}
