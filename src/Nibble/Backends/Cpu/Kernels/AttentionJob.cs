using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// Causal attention over the cache with an online softmax (arXiv 1805.02867; FlashAttention's loop, arXiv 2205.14135): keys are
/// visited in blocks, with a running largest score, sum and weighted values, so that memory does not grow with the length.
/// </summary>
internal unsafe struct AttentionJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int KeyBlock = 64;
    private const int QueryBlock = 16;

    private readonly float* _query, _keys, _values, _output;
    private readonly int* _firstKey;
    private readonly nint _batch, _length, _start, _heads, _kvHeads, _capacity, _dim, _window;
    private readonly float _scale;

    public AttentionJob(in AttentionArguments a)
    {
        _query = Floats(a.Query);
        _keys = Floats(a.Keys);
        _values = Floats(a.Values);
        _output = Floats(a.Output);
        _firstKey = a.FirstKey is null ? null : (int*)a.FirstKey.HostPointer;
        (_batch, _length, _start, _window, _scale) = (a.Batch, a.Length, a.Start, a.Window, a.Scale);
        (_heads, _dim) = (a.Query.Shape[1], a.Query.Shape[2]);
        (_kvHeads, _capacity) = (a.Keys.Shape[1], a.Keys.Shape[2]);
    }

    private readonly nint QueryBlocks => (_length + QueryBlock - 1) / QueryBlock;

    public readonly int Parts => checked((int)(_batch * _heads * QueryBlocks));

    public readonly void Execute(int part)
    {
        nint block = part % QueryBlocks;
        nint head = part / QueryBlocks % _heads;
        nint batch = part / QueryBlocks / _heads;
        nint end = nint.Min(_length, (block + 1) * QueryBlock);
        for (nint token = block * QueryBlock; token < end; token++)
        {
            Attend(batch, head, token);
        }
    }

    private readonly void Attend(nint batch, nint head, nint token)
    {
        nint cache = ((batch * _kvHeads) + (head / (_heads / _kvHeads))) * _capacity * _dim;
        nint row = ((((batch * _length) + token) * _heads) + head) * _dim;
        nint last = _start + token;
        nint first = nint.Max(_firstKey == null ? 0 : _firstKey[batch], _window > 0 ? last - _window + 1 : 0);
        float* output = _output + row;
        new Span<float>(output, (int)_dim).Clear();
        float* scores = stackalloc float[KeyBlock];
        float largest = float.NegativeInfinity, sum = 0;
        for (nint key = first; key <= last; key += KeyBlock)
        {
            nint count = nint.Min(KeyBlock, last - key + 1);
            for (nint i = 0; i < count; i++)
            {
                scores[i] = Reduce<S, V>.Dot(_query + row, _keys + cache + ((key + i) * _dim), _dim) * _scale;
            }

            float next = MathF.Max(largest, Reduce<S, V>.Largest(scores, count));
            float correction = next == float.NegativeInfinity ? 1 : MathF.Exp(largest - next);
            sum = (sum * correction) + Reduce<S, V>.ExpAndSum(scores, next == float.NegativeInfinity ? 0 : next, count);
            Reduce<S, V>.Scale(output, correction, _dim);
            largest = next;
            for (nint i = 0; i < count; i++)
            {
                Reduce<S, V>.AddScaled(_values + cache + ((key + i) * _dim), scores[i], output, _dim);
            }
        }

        if (last >= first)
        {
            Reduce<S, V>.Scale(output, 1 / sum, _dim);
        }
    }

    private static float* Floats(Tensor tensor) => (float*)tensor.HostPointer;
}
