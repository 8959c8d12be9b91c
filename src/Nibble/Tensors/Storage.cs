using System.Runtime.InteropServices;

namespace Nibble.Tensors;

/// <summary>A run of bytes that a backend owns. Only <see cref="HostStorage"/> can be read by the processor.</summary>
public abstract class Storage : IDisposable
{
    /// <summary>Creates a storage of <paramref name="byteLength"/> bytes.</summary>
    protected Storage(nint byteLength) => ByteLength = byteLength;

    /// <summary>Size in bytes.</summary>
    public nint ByteLength { get; }

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>A storage in the processor's address space: native memory, or a mapped file.</summary>
public abstract unsafe class HostStorage : Storage
{
    /// <summary>Creates a host storage.</summary>
    protected HostStorage(nint byteLength)
        : base(byteLength)
    {
    }

    /// <summary>First byte; valid until the storage is disposed.</summary>
    public abstract byte* Pointer { get; }
}

/// <summary>64-byte aligned native memory, zeroed at the start.</summary>
public sealed unsafe class NativeStorage : HostStorage
{
    /// <summary>Alignment of every allocation: one cache line, one AVX-512 register.</summary>
    public const int Alignment = 64;

    private readonly bool _isMapped;
    private byte* _pointer;

    /// <summary>Takes <paramref name="byteLength"/> bytes of native memory, zeroed.</summary>
    public NativeStorage(nint byteLength)
        : base(byteLength)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(byteLength);
        HeapBlocks.ReturnLargeOnes();
        // 64 spare bytes let a vector kernel read (never write) past the last element.
        nint size = checked(byteLength + Alignment);
        _isMapped = HugePages.Suit(byteLength);
        try
        {
            _pointer = _isMapped ? HugePages.Take(size) : (byte*)NativeMemory.AlignedAlloc((nuint)size, Alignment);
            if (_pointer == null)
            {
                throw new OutOfMemoryException();
            }
        }
        catch (OutOfMemoryException error)
        {
            IO.Throw.Resource(
                $"out of memory: {byteLength:N0} bytes could not be allocated",
                "the system refused the request",
                "close other programs, or use a smaller model, batch or context",
                error);
        }

        if (!_isMapped)
        {
            NativeMemory.Clear(_pointer, (nuint)size);
        }

        GC.AddMemoryPressure(byteLength == 0 ? 1 : byteLength);
    }

    /// <inheritdoc/>
    public override byte* Pointer => _pointer != null ? _pointer : throw new ObjectDisposedException(nameof(NativeStorage));

    /// <inheritdoc/>
    public override void Dispose()
    {
        Release();
        GC.SuppressFinalize(this);
    }

    private void Release()
    {
        if (_pointer != null)
        {
            if (_isMapped)
            {
                HugePages.Give(_pointer, ByteLength + Alignment);
            }
            else
            {
                NativeMemory.AlignedFree(_pointer);
            }

            _pointer = null;
            GC.RemoveMemoryPressure(ByteLength == 0 ? 1 : ByteLength);
        }
    }

    /// <summary>Frees what its owner forgot.</summary>
    ~NativeStorage() => Release();
}
