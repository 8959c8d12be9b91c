namespace Nibble.Tokenization;

/// <summary>
/// Merges the symbols of one word: always the adjacent pair of lowest rank, the leftmost among equals, until none merges.
/// Words of usual length are scanned again and again (no bookkeeping beats that); long ones use a heap, so that a megabyte
/// without a space costs n·log n.
/// </summary>
internal sealed class BpeMerger(MergeTable merges)
{
    // Beyond this many symbols the quadratic scan loses to the heap (measured on words of random letters).
    private const int Short = 48;

    private readonly int[] _ranks = new int[Short];
    private readonly int[] _merged = new int[Short];
    private LongWord? _long;

    /// <summary>Merges in place and returns how many symbols are left.</summary>
    public int Merge(Span<int> ids) => ids.Length switch
    {
        < 2 => ids.Length,
        <= Short => MergeShort(ids),
        _ => (_long ??= new LongWord(merges)).Merge(ids),
    };

    private int MergeShort(Span<int> ids)
    {
        int count = ids.Length;
        Span<int> ranks = _ranks.AsSpan(0, count - 1);
        Span<int> merged = _merged.AsSpan(0, count - 1);
        for (int i = 0; i < ranks.Length; i++)
        {
            ranks[i] = merges.Find(ids[i], ids[i + 1], out merged[i]);
        }

        while (true)
        {
            int best = Lowest(ranks[..(count - 1)]);
            if (best < 0)
            {
                return count;
            }

            ids[best] = merged[best];
            count--;
            ids[(best + 2)..(count + 1)].CopyTo(ids[(best + 1)..]);
            if (best < count - 1)
            {
                ranks[(best + 1)..count].CopyTo(ranks[best..]);
                merged[(best + 1)..count].CopyTo(merged[best..]);
                ranks[best] = merges.Find(ids[best], ids[best + 1], out merged[best]);
            }

            if (best > 0)
            {
                ranks[best - 1] = merges.Find(ids[best - 1], ids[best], out merged[best - 1]);
            }
        }
    }

    /// <summary>The place of the lowest rank, leftmost among equals; −1 if nothing merges.</summary>
    private static int Lowest(ReadOnlySpan<int> ranks)
    {
        int place = -1;
        int lowest = MergeTable.NoRank;
        for (int i = 0; i < ranks.Length; i++)
        {
            if (ranks[i] < lowest)
            {
                lowest = ranks[i];
                place = i;
            }
        }

        return place;
    }
}
