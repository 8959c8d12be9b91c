using Nibble.Tensors;

namespace Nibble.Backends;

/// <summary>
/// Memory for intermediates, taken and given back like a stack: inside a <see cref="Begin"/> scope tensors are rented, and all of
/// them are free again when the scope ends. What was allocated is kept (as one piece from the second pass on), so that later passes of the same shapes allocate nothing.
/// Not thread-safe: one workspace per running model.
/// </summary>
public sealed class Workspace : IDisposable
{
    private const nint Alignment = 64;
    private readonly IBackend _backend;
    private readonly List<Tensor> _chunks = [];
    private readonly nint _chunkBytes;
    private int _chunk;
    private nint _used;

    /// <summary>Creates an empty workspace that grows by chunks of at least <paramref name="chunkBytes"/>.</summary>
    public Workspace(IBackend backend, nint chunkBytes = 1 << 20)
    {
        _backend = backend;
        _chunkBytes = chunkBytes;
    }

    /// <summary>
    /// While true, the end of a scope gives nothing back: a backward pass still reads the intermediates. A scope that ends after it
    /// is false again gives back everything since its start.
    /// </summary>
    public bool Retain { get; set; }

    /// <summary>While true, chunks stay where they are: somebody may still read what scopes have given back.</summary>
    public bool Stays { get; set; }

    /// <summary>Bytes of all chunks.</summary>
    public nint ByteLength => _chunks.Aggregate((nint)0, (sum, chunk) => sum + chunk.ByteLength);

    /// <summary>Starts a scope: tensors rented from now on are free again when it is disposed.</summary>
    public Scope Begin()
    {
        if (_chunk == 0 && _used == 0 && _chunks.Count > 1 && !Retain && !Stays)
        {
            Unite();
        }

        return new Scope(this, _chunk, _used);
    }

    /// <summary>A tensor whose content is undefined and which is valid until the innermost scope ends.</summary>
    public Tensor Rent(Shape shape, DType dtype = DType.F32)
    {
        // Something even for nothing: a piece that an empty tensor stands in is in use.
        nint bytes = nint.Max(Alignment, (checked(shape.Count * dtype.Size()) + Alignment - 1) & ~(Alignment - 1));
        int first = _used == 0 ? _chunk : _chunk + 1;
        while (_chunk < _chunks.Count && _used + bytes > _chunks[_chunk].ByteLength)
        {
            _chunk++;
            _used = 0;
        }

        if (_chunk == _chunks.Count)
        {
            // Nobody has anything behind the top of the stack: pieces that are too small make room for one that is not.
            if (!Stays && first < _chunks.Count)
            {
                Drop(first);
            }

            _chunks.Add(_backend.Allocate(new Shape(nint.Max(bytes, _chunkBytes)), DType.U8));
        }

        Tensor chunk = _chunks[_chunk];
        Tensor rented = new(shape, dtype, chunk.Storage, chunk.ByteOffset + _used, ownsStorage: false);
        _used += bytes;
        return rented;
    }

    /// <summary>
    /// One chunk in the place of many. A pass of other shapes would leave the end of each chunk unused and add new ones behind them,
    /// so with ever new shapes an empty workspace would never stop growing.
    /// </summary>
    private void Unite()
    {
        nint bytes = ByteLength;
        Dispose();
        _chunks.Add(_backend.Allocate(new Shape(bytes), DType.U8));
    }

    /// <summary>Frees all chunks.</summary>
    public void Dispose() => Drop(0);

    private void Drop(int first)
    {
        foreach (Tensor chunk in _chunks[first..])
        {
            chunk.Dispose();
        }

        _chunks.RemoveRange(first, _chunks.Count - first);
        (_chunk, _used) = (first, 0);
    }

    /// <summary>The lifetime of rented tensors.</summary>
    public readonly struct Scope : IDisposable
    {
        private readonly Workspace _workspace;
        private readonly int _chunk;
        private readonly nint _used;

        internal Scope(Workspace workspace, int chunk, nint used) => (_workspace, _chunk, _used) = (workspace, chunk, used);

        /// <summary>Gives back everything rented since the scope began.</summary>
        public void Dispose()
        {
            if (!_workspace.Retain)
            {
                (_workspace._chunk, _workspace._used) = (_chunk, _used);
            }
        }
    }
}
