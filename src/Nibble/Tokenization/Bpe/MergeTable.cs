using System.Numerics;
using System.Runtime.CompilerServices;

namespace Nibble.Tokenization;

/// <summary>
/// Pair of adjacent tokens → rank (lower merges first) and the token that they become. Open addressing with linear probing:
/// one cache line per look-up in most cases, which is what a merge loop spends its time on.
/// </summary>
internal sealed class MergeTable
{
    /// <summary>The rank of a pair that does not merge.</summary>
    public const int NoRank = int.MaxValue;

    private Slot[] _slots;
    private int _mask;
    private int _shift;

    public MergeTable(int expected)
    {
        Resize(BitOperations.RoundUpToPowerOf2((uint)Math.Max(16, expected * 2L)));
    }

    /// <summary>Number of pairs.</summary>
    public int Count { get; private set; }

    /// <summary>Adds a pair; a pair that is there already gets the new rank, as in the reference implementation.</summary>
    public void Set(int left, int right, int rank, int merged)
    {
        if ((Count + 1) * 2L > _slots.Length)
        {
            Slot[] old = _slots;
            Resize((uint)old.Length * 2);
            foreach (Slot slot in old)
            {
                if (slot.Merged >= 0)
                {
                    _slots[Place(slot.Key)] = slot;
                }
            }
        }

        int place = Place(Key(left, right));
        Count += _slots[place].Merged < 0 ? 1 : 0;
        _slots[place] = new Slot(Key(left, right), rank, merged);
    }

    /// <summary>The rank of a pair, or <see cref="NoRank"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Find(int left, int right, out int merged)
    {
        ulong key = Key(left, right);
        Slot[] slots = _slots;
        int at = Home(key);
        while (true)
        {
            ref readonly Slot slot = ref slots[at];
            if (slot.Key == key || slot.Merged < 0)
            {
                merged = slot.Merged;
                return slot.Rank;
            }

            at = (at + 1) & _mask;
        }
    }

    /// <summary>All pairs, in no particular order.</summary>
    public IEnumerable<(int Left, int Right, int Rank, int Merged)> Pairs() =>
        _slots.Where(slot => slot.Merged >= 0).Select(slot => ((int)(slot.Key >> 32), (int)(uint)slot.Key, slot.Rank, slot.Merged));

    private static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;

    private int Home(ulong key) => (int)((key * 0x9E3779B97F4A7C15UL) >> _shift) & _mask;

    private int Place(ulong key)
    {
        int at = Home(key);
        while (_slots[at].Merged >= 0 && _slots[at].Key != key)
        {
            at = (at + 1) & _mask;
        }

        return at;
    }

    [System.Diagnostics.CodeAnalysis.MemberNotNull(nameof(_slots))]
    private void Resize(uint size)
    {
        _slots = new Slot[size];
        Array.Fill(_slots, new Slot(ulong.MaxValue, NoRank, -1));
        _mask = (int)size - 1;
        _shift = 64 - BitOperations.Log2(size);
    }

    private readonly record struct Slot(ulong Key, int Rank, int Merged);
}
