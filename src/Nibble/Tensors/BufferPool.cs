using Nibble.Backends;

namespace Nibble.Tensors;

/// <summary>Buffers of a backend that are used again by size: the shapes of a training step are those of the step before.</summary>
internal sealed class BufferPool(IBackend backend) : IDisposable
{
    private readonly Dictionary<nint, Stack<Tensor>> _free = [];
    private readonly Dictionary<Storage, Tensor> _used = [];

    /// <summary>Bytes that all buffers have taken.</summary>
    public long PeakBytes { get; private set; }

    /// <summary>A buffer of F32.</summary>
    public Tensor Rent(Shape shape, bool zeroed)
    {
        if (!_free.TryGetValue(shape.Count, out Stack<Tensor>? stack) || !stack.TryPop(out Tensor? buffer))
        {
            buffer = backend.Allocate(new Shape(shape.Count), DType.F32);
            PeakBytes += buffer.ByteLength;
        }
        else if (zeroed)
        {
            backend.Gradients.Fill(buffer, 0);
        }

        _used.Add(buffer.Storage, buffer);
        return buffer.Reshape(shape);
    }

    /// <summary>A buffer with the values of another tensor.</summary>
    public Tensor Copy(Tensor source)
    {
        Tensor copy = Rent(source.Shape, zeroed: false);
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
    }
}
