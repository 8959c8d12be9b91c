using Nibble.Backends.Cpu.Kernels;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>
/// Backward of causal attention. A part owns one key-value head of one row of the batch, so its sums into dK and dV need no lock;
/// it goes through blocks of queries and computes their probabilities P again (FlashAttention, arXiv 2205.14135, algorithm 4):
/// dV += Pᵀ·dO, dP = dO·Vᵀ, dS = P∘(dP − Σ P∘dP)·scale, dQ += dS·K, dK += dSᵀ·Q. Memory is a block of rows of scores.
/// </summary>
internal unsafe struct AttentionGradientJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    // Eight tiles of rows: more would waste products above the diagonal, fewer would pack keys and values too often.
    private const int QueryBlock = 8 * Gemm<S, V>.TileRows;

    private readonly float* _query, _keys, _values, _dOutput, _dQuery, _dKeys, _dValues;
    private readonly int* _firstKey;
    private readonly nint _batch, _length, _start, _heads, _kvHeads, _capacity, _dim, _window;
    private readonly float _scale;
    private readonly bool _ofQueries;

    /// <summary>Writes dQ, dK and dV instead of adding.</summary>
    public bool Overwrite { get; init; }

    public AttentionGradientJob(in AttentionArguments a, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
        _query = Floats(a.Query);
        _keys = Floats(a.Keys);
        _values = Floats(a.Values);
        _dOutput = Floats(dOutput);
        _dQuery = Floats(dQuery);
        _dKeys = Floats(dKeys);
        _dValues = Floats(dValues);
        _firstKey = a.FirstKey is null ? null : (int*)a.FirstKey.HostPointer;
        (_batch, _length, _start, _window, _scale) = (a.Batch, a.Length, a.Start, a.Window, a.Scale);
        _ofQueries = a.HasFirstKeyOfQueries;
        (_heads, _dim) = (a.Query.Shape[1], a.Query.Shape[2]);
        (_kvHeads, _capacity) = (a.Keys.Shape[1], a.Keys.Shape[2]);
    }

    public readonly int Parts => checked((int)(_batch * _kvHeads));

    public readonly void Execute(int part)
    {
        (nint batch, nint kvHead) = (part / _kvHeads, part % _kvHeads);
        nint slots = _start + _length;
        nint cache = part * _capacity * _dim;
        nint across = Blocks<S, V>.PanelFloats(slots, _dim), along = Blocks<S, V>.PanelFloats(_dim, slots);
        using CpuScratch.Lease lease = CpuScratch.Rent(((2 * across) + along) * sizeof(float));
        Packed packed = new() { Keys = (float*)lease.Pointer, Values = (float*)lease.Pointer + across, KeyRows = (float*)lease.Pointer + (2 * across) };
        Blocks<S, V>.PackPanels(_keys + cache, 1, _dim, _dim, slots, packed.Keys);
        Blocks<S, V>.PackPanels(_values + cache, 1, _dim, _dim, slots, packed.Values);
        Blocks<S, V>.PackPanels(_keys + cache, _dim, 1, slots, _dim, packed.KeyRows);
        packed.KeyRowStride = Blocks<S, V>.Width * slots;
        if (Overwrite)
        {
            new Span<float>(_dKeys + cache, checked((int)(_capacity * _dim))).Clear();
            new Span<float>(_dValues + cache, checked((int)(_capacity * _dim))).Clear();
        }

        nint group = _heads / _kvHeads;
        for (nint head = kvHead * group; head < (kvHead + 1) * group; head++)
        {
            for (nint token = 0; token < _length; token += QueryBlock)
            {
                RunBlock(batch, head, token, nint.Min(QueryBlock, _length - token), cache, packed);
            }
        }
    }

    private readonly void RunBlock(nint batch, nint head, nint token, nint rows, nint cache, in Packed packed)
    {
        // Rows of scores end with whole panels: products need no edges, and the columns beyond the last key are zero.
        nint keys = _start + token + rows, padded = Blocks<S, V>.Panels(keys) * Blocks<S, V>.Width;
        nint query = ((((batch * _length) + token) * _heads) + head) * _dim;
        nint stride = _heads * _dim;
        nint panelFloats = Blocks<S, V>.PanelFloats(_dim, QueryBlock);
        using CpuScratch.Lease lease = CpuScratch.Rent(((2 * rows * padded) + TilesFloats(rows, padded) + panelFloats) * sizeof(float));
        float* scores = (float*)lease.Pointer;
        float* slopes = scores + (rows * padded);
        float* tiles = slopes + (rows * padded);
        float* panels = tiles + TilesFloats(rows, padded);

        Blocks<S, V>.MultiplyRows(_query + query, stride, rows, packed.Keys, Blocks<S, V>.Width * _dim, padded, _dim, RowMajor(scores, padded), add: false, tiles);
        Blocks<S, V>.MultiplyRows(_dOutput + query, stride, rows, packed.Values, Blocks<S, V>.Width * _dim, padded, _dim, RowMajor(slopes, padded), add: false, tiles);
        for (nint row = 0; row < rows; row++)
        {
            ScoreGradient(scores + (row * padded), slopes + (row * padded), FirstKey(batch, token + row), _start + token + row, padded);
        }

        Blocks<S, V>.MultiplyRows(slopes, padded, rows, packed.KeyRows, packed.KeyRowStride, _dim, keys, RowMajor(_dQuery + query, stride), add: !Overwrite, tiles);
        AddTransposed(scores, padded, _dOutput + query, stride, rows, keys, tiles, panels, _dValues + cache);
        AddTransposed(slopes, padded, _query + query, stride, rows, keys, tiles, panels, _dKeys + cache);
    }

    /// <summary>Turns a row of scores into probabilities and a row of dP into dS.</summary>
    private readonly void ScoreGradient(float* scores, float* slopes, nint first, nint last, nint keys)
    {
        nint count = nint.Max(0, last - first + 1);
        nint before = nint.Min(first, keys), after = nint.Max(before, nint.Min(keys, last + 1));
        Clear(scores, slopes, 0, before);
        Clear(scores, slopes, after, keys);
        if (count == 0)
        {
            Clear(scores, slopes, 0, keys);
            return;
        }

        Reduce<S, V>.Scale(scores + first, _scale, count);
        float sum = Reduce<S, V>.ExpAndSum(scores + first, Reduce<S, V>.Largest(scores + first, count), count);
        Reduce<S, V>.Scale(scores + first, 1 / sum, count);
        float mean = Reduce<S, V>.Dot(scores + first, slopes + first, count);
        RowMath<S, V>.Normalize(slopes + first, mean, _scale, slopes + first, count);
        RowMath<S, V>.Multiply(slopes + first, scores + first, slopes + first, count);
    }

    /// <summary>target <c>[keys, dim]</c> += matrixᵀ·right, matrix <c>[rows, keys]</c>.</summary>
    private readonly void AddTransposed(float* matrix, nint matrixStride, float* right, nint stride, nint rows, nint keys, float* tiles, float* panels, float* target)
    {
        Blocks<S, V>.PackPanels(right, stride, 1, rows, _dim, panels);
        Blocks<S, V>.PackTiles(matrix, 1, matrixStride, keys, rows, tiles);
        Blocks<S, V>.Multiply(tiles, keys, panels, Blocks<S, V>.Width * rows, _dim, rows, RowMajor(target, _dim), add: true);
    }

    private readonly nint FirstKey(nint batch, nint token) =>
        nint.Max(_firstKey == null ? 0 : _firstKey[_ofQueries ? (batch * _length) + token : batch], _window > 0 ? _start + token - _window + 1 : 0);

    private readonly nint TilesFloats(nint rows, nint keys) =>
        nint.Max(Blocks<S, V>.TileFloats(rows, nint.Max(_dim, keys)), Blocks<S, V>.TileFloats(keys, rows));

    private static void Clear(float* scores, float* slopes, nint first, nint end)
    {
        new Span<float>(scores + first, (int)(end - first)).Clear();
        new Span<float>(slopes + first, (int)(end - first)).Clear();
    }

    private static Target RowMajor(float* pointer, nint stride) => new(pointer, stride, Blocks<S, V>.Width);

    private static float* Floats(Tensor tensor) => (float*)tensor.HostPointer;

    /// <summary>Keys and values of the head as panels: over slots (for scores), and the keys once more over the head's width (for dQ).</summary>
    private struct Packed
    {
        public float* Keys, Values, KeyRows;
        public nint KeyRowStride;
    }
}
