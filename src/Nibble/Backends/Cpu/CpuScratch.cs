using System.Runtime.InteropServices;

namespace Nibble.Backends.Cpu;

/// <summary>
/// Memory of the calling thread for what a kernel needs during one call (a panel, packed activations). Taken and given back like
/// a stack, 64-byte aligned, kept between calls, so hot paths allocate nothing after the first.
/// </summary>
internal sealed unsafe class CpuScratch
{
    private const nint Alignment = 64;

    // Larger blocks are freed with their lease: a thread of a server should not sit on a long prompt's memory for ever.
    private const nint MostKept = 64 << 20;

    [ThreadStatic]
    private static CpuScratch? _current;

    private readonly List<(nint Pointer, nint Bytes)> _blocks = [];
    private int _used;

    ~CpuScratch()
    {
        foreach ((nint pointer, _) in _blocks)
        {
            NativeMemory.AlignedFree((void*)pointer);
        }
    }

    /// <summary>Takes memory of undefined content until the lease is disposed; leases end in the reverse order of their start.</summary>
    public static Lease Rent(nint bytes)
    {
        CpuScratch scratch = _current ??= new CpuScratch();
        return new Lease(scratch, scratch.Take(bytes));
    }

    private void* Take(nint bytes)
    {
        if (_used == _blocks.Count)
        {
            _blocks.Add((0, 0));
        }

        if (_blocks[_used].Bytes < bytes)
        {
            NativeMemory.AlignedFree((void*)_blocks[_used].Pointer);
            _blocks[_used] = (0, 0);
            nint rounded = (bytes + (2 * Alignment) - 1) & ~(Alignment - 1);
            _blocks[_used] = ((nint)NativeMemory.AlignedAlloc((nuint)rounded, (nuint)Alignment), rounded);
        }

        return (void*)_blocks[_used++].Pointer;
    }

    private void Return()
    {
        _used--;
        if (_blocks[_used].Bytes > MostKept)
        {
            NativeMemory.AlignedFree((void*)_blocks[_used].Pointer);
            _blocks[_used] = (0, 0);
        }
    }

    /// <summary>A piece of scratch memory.</summary>
    public readonly ref struct Lease
    {
        private readonly CpuScratch _owner;

        internal Lease(CpuScratch owner, void* pointer)
        {
            _owner = owner;
            Pointer = pointer;
        }

        /// <summary>First byte, 64-byte aligned.</summary>
        public void* Pointer { get; }

        public void Dispose() => _owner.Return();
    }
}
