using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// Causal attention over the cache with an online softmax (arXiv 1805.02867; FlashAttention's loop, arXiv 2205.14135): keys are
/// visited in blocks, with a running largest score, sum and weighted values, so that memory does not grow with the length.
/// A part serves up to 64 queries that share a key-value head: some tokens times the heads of the group.
/// </summary>
internal unsafe struct AttentionJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int MostRows = 64;

    private readonly float* _query, _keys, _values, _output;
    private readonly int* _firstKey;
    private readonly nint _batch, _length, _start, _heads, _kvHeads, _capacity, _dim, _window;
    private readonly float _scale;
    private readonly bool _ofQueries;

    public AttentionJob(in AttentionArguments a)
    {
        _query = Floats(a.Query);
        _keys = Floats(a.Keys);
        _values = Floats(a.Values);
        _output = Floats(a.Output);
        _firstKey = a.FirstKey is null ? null : (int*)a.FirstKey.HostPointer;
        (_batch, _length, _start, _window, _scale) = (a.Batch, a.Length, a.Start, a.Window, a.Scale);
        _ofQueries = a.HasFirstKeyOfQueries;
        (_heads, _dim) = (a.Query.Shape[1], a.Query.Shape[2]);
        (_kvHeads, _capacity) = (a.Keys.Shape[1], a.Keys.Shape[2]);
    }

    public readonly int Parts => checked((int)(_batch * _kvHeads * TokenBlocks));

    private readonly nint Group => _heads / _kvHeads;

    private readonly nint TokensPerPart => nint.Max(1, MostRows / Group);

    private readonly nint TokenBlocks => (_length + TokensPerPart - 1) / TokensPerPart;

    public readonly void Execute(int part)
    {
        // The last tokens see the most keys: they come first, so that no long part is left over at the end.
        nint block = TokenBlocks - 1 - (part % TokenBlocks);
        nint head = part / TokenBlocks % _kvHeads;
        nint batch = part / TokenBlocks / _kvHeads;
        nint token = block * TokensPerPart;
        nint cache = ((batch * _kvHeads) + head) * _capacity * _dim;
        nint row = ((((batch * _length) + token) * _heads) + (head * Group)) * _dim;
        AttentionRows<S, V> rows = new()
        {
            Query = _query + row,
            Output = _output + row,
            Keys = _keys + cache,
            Values = _values + cache,
            Tokens = (int)nint.Min(TokensPerPart, _length - token),
            Group = (int)Group,
            TokenStride = _heads * _dim,
            Dim = _dim,
            Last = _start + token,
            First = _firstKey == null || _ofQueries ? 0 : _firstKey[batch],
            Firsts = _ofQueries ? _firstKey + (batch * _length) + token : null,
            Window = _window,
            Scale = _scale,
        };
        rows.Run();
    }

    private static float* Floats(Tensor tensor) => (float*)tensor.HostPointer;
}
