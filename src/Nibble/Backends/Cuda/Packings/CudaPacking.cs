using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>How a card keeps a weight <c>[Out, In]</c>: what kernels read, and the buffers behind it.</summary>
internal abstract class CudaPacking(CachingMemory memory, nint outFeatures, nint inFeatures) : IPackedWeight
{
    private readonly List<CudaStorage> _buffers = [];
    private PackedArgument _argument = new() { Rows = outFeatures, Columns = inFeatures };

    public nint Out { get; } = outFeatures;

    public nint In { get; } = inFeatures;

    public nint ByteLength { get; private set; }

    public abstract string Name { get; }

    /// <summary>Which kernels read it: <c>f32</c>, <c>affine4</c> …</summary>
    public abstract string Format { get; }

    /// <summary>Which kernels on tensor cores read it, or null: <c>affine4</c>, <c>affine4_small</c> for groups of 32 …</summary>
    public virtual string? TensorFormat => null;

    /// <summary>The levels of a codebook; empty without one.</summary>
    public virtual ReadOnlySpan<float> Levels => [];

    public virtual ActivationType Activations => ActivationType.F32;

    public virtual double? OutlierShare => null;

    /// <summary>The kernels' argument.</summary>
    public ref PackedArgument Argument => ref _argument;

    /// <summary>Where its buffers are.</summary>
    protected CachingMemory Memory => memory;

    public abstract QuantizedWeight? Unpack();

    /// <summary>The values as a matrix on the card if they are kept so in <paramref name="dtype"/>; else 0.</summary>
    public virtual nint Matrix(DType dtype) => 0;

    public virtual void Dispose()
    {
        foreach (CudaStorage buffer in _buffers)
        {
            buffer.Dispose();
        }

        _buffers.Clear();
    }

    /// <summary>Puts values on the card for as long as the packing lives.</summary>
    protected CudaStorage Keep<T>(ReadOnlySpan<T> values)
        where T : unmanaged
    {
        CudaStorage buffer = memory.Upload(values, "weights");
        Keep(buffer);
        return buffer;
    }

    /// <summary>The same for bytes, as many as there are: a span ends at 2 GiB.</summary>
    protected unsafe CudaStorage Keep(void* values, nint bytes)
    {
        CudaStorage buffer = memory.Rent(bytes, "weights");
        Keep(buffer);
        memory.Upload(values, buffer);
        return buffer;
    }

    /// <summary>Takes over a buffer for as long as the packing lives.</summary>
    protected void Keep(CudaStorage buffer)
    {
        _buffers.Add(buffer);
        ByteLength += buffer.ByteLength;
    }

    /// <summary>Gives a buffer back before the packing ends; its bytes still count.</summary>
    protected void Release(CudaStorage buffer)
    {
        _buffers.Remove(buffer);
        buffer.Dispose();
    }

    /// <summary>Reads a buffer of the packing.</summary>
    protected T[] Read<T>(CudaStorage buffer)
        where T : unmanaged => memory.Download<T>(buffer);
}
