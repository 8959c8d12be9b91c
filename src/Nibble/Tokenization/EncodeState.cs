namespace Nibble.Tokenization;

/// <summary>What one thread needs while it encodes: buffers and the cache of words. Borrowed from a pool per call.</summary>
internal sealed class EncodeState
{
    private const int Keep = 1 << 16;

    private int[] _symbols = new int[256];
    private byte[] _bytes = new byte[256];
    private BpeMerger? _merger;

    /// <summary>Where ids go.</summary>
    public List<int> Output { get; set; } = [];

    /// <summary>Words seen before.</summary>
    public PieceCache Cache { get; } = new();

    /// <summary>A buffer for symbols; the content is lost at the next call.</summary>
    public Span<int> Symbols(int length)
    {
        if (_symbols.Length < length || _symbols.Length > Math.Max(Keep, length))
        {
            _symbols = new int[Math.Max(length, 256)];
        }

        return _symbols.AsSpan(0, length);
    }

    /// <summary>A buffer for bytes; the content is lost at the next call.</summary>
    public Span<byte> Bytes(int length)
    {
        if (_bytes.Length < length || _bytes.Length > Math.Max(Keep, length))
        {
            _bytes = new byte[Math.Max(length, 256)];
        }

        return _bytes.AsSpan(0, length);
    }

    /// <summary>The merger of this state.</summary>
    public BpeMerger Merger(MergeTable merges) => _merger ??= new BpeMerger(merges);
}
