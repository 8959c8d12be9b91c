namespace Nibble.Tokenization;

/// <summary>Merges a long word with a binary heap over (rank, place) and a linked list of symbols: n·log n.</summary>
internal sealed class LongWord(MergeTable merges)
{
    // Buffers larger than this are given back after use: one huge word must not keep memory for ever.
    private const int Keep = 1 << 16;

    private int[] _next = [];
    private int[] _previous = [];
    private int[] _ranks = [];
    private int[] _merged = [];
    private long[] _heap = [];
    private int _size;

    /// <summary>Merges in place and returns how many symbols are left.</summary>
    public int Merge(Span<int> ids)
    {
        Prepare(ids);
        while (_size > 0)
        {
            long entry = Pop();
            int place = (int)(uint)entry;

            // An entry is stale if its pair was merged or changed after it was pushed; the current rank tells.
            if (_ranks[place] == (int)(entry >> 32))
            {
                Join(ids, place);
            }
        }

        int count = 0;
        for (int i = 0; i >= 0; i = _next[i])
        {
            ids[count++] = ids[i];
        }

        if (_next.Length > Keep)
        {
            (_next, _previous, _ranks, _merged, _heap) = ([], [], [], [], []);
        }

        return count;
    }

    private void Prepare(ReadOnlySpan<int> ids)
    {
        if (_next.Length < ids.Length)
        {
            int length = Math.Max(ids.Length, 256);
            _next = new int[length];
            _previous = new int[length];
            _ranks = new int[length];
            _merged = new int[length];
        }

        _size = 0;
        for (int i = 0; i < ids.Length; i++)
        {
            _next[i] = i + 1 < ids.Length ? i + 1 : -1;
            _previous[i] = i - 1;
        }

        for (int i = 0; i < ids.Length; i++)
        {
            Rate(ids, i);
        }
    }

    private void Join(Span<int> ids, int place)
    {
        int gone = _next[place];
        int after = _next[gone];
        ids[place] = _merged[place];
        _ranks[gone] = MergeTable.NoRank;
        _next[place] = after;
        if (after >= 0)
        {
            _previous[after] = place;
        }

        Rate(ids, place);
        if (_previous[place] >= 0)
        {
            Rate(ids, _previous[place]);
        }
    }

    /// <summary>Looks up the pair that begins at a place and pushes it if it merges.</summary>
    private void Rate(ReadOnlySpan<int> ids, int place)
    {
        int next = _next[place];
        int rank = next < 0 ? MergeTable.NoRank : merges.Find(ids[place], ids[next], out _merged[place]);
        _ranks[place] = rank;
        if (rank != MergeTable.NoRank)
        {
            Push(((long)rank << 32) | (uint)place);
        }
    }

    private void Push(long entry)
    {
        if (_size == _heap.Length)
        {
            Array.Resize(ref _heap, Math.Max(256, _size * 2));
        }

        int at = _size++;
        while (at > 0 && _heap[(at - 1) / 2] > entry)
        {
            _heap[at] = _heap[(at - 1) / 2];
            at = (at - 1) / 2;
        }

        _heap[at] = entry;
    }

    private long Pop()
    {
        long top = _heap[0];
        long last = _heap[--_size];
        int at = 0;
        while (true)
        {
            int child = (2 * at) + 1;
            if (child >= _size)
            {
                break;
            }

            child += child + 1 < _size && _heap[child + 1] < _heap[child] ? 1 : 0;
            if (_heap[child] >= last)
            {
                break;
            }

            _heap[at] = _heap[child];
            at = child;
        }

        _heap[at] = last;
        return top;
    }
}
