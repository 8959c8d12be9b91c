using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Nibble.Tokenization;

/// <summary>
/// Remembers the tokens of words. Natural text repeats its words, so most of it never reaches the merge loop. Bounded: one
/// arena of characters and one of ids; when either or the table is full, everything is forgotten and learned anew.
/// </summary>
internal sealed class PieceCache
{
    /// <summary>Longest word that is remembered.</summary>
    public const int LongestPiece = 40;

    private const int Slots = 1 << 16;
    private const int MostPieces = Slots / 2;
    private const int Probes = 16;

    private readonly Slot[] _slots = new Slot[Slots];
    private readonly char[] _chars = new char[MostPieces * 10];
    private readonly int[] _ids = new int[MostPieces * 4];
    private int _usedChars;
    private int _usedIds;
    private int _pieces;

    /// <summary>Finds the tokens of a word.</summary>
    public bool TryGet(ReadOnlySpan<char> piece, uint hash, out ReadOnlySpan<int> ids)
    {
        Slot[] slots = _slots;
        uint at = hash & (Slots - 1);
        for (int probe = 0; probe < Probes; probe++)
        {
            ref readonly Slot slot = ref slots[at];
            if (slot.Length == 0)
            {
                break;
            }

            if (slot.Hash == hash && slot.Length == piece.Length && piece.SequenceEqual(_chars.AsSpan(slot.Chars, slot.Length)))
            {
                ids = _ids.AsSpan(slot.Ids, slot.Count);
                return true;
            }

            at = (at + 1) & (Slots - 1);
        }

        ids = default;
        return false;
    }

    /// <summary>Remembers a word, unless its neighbourhood in the table is full (crafted collisions cost nothing that way).</summary>
    public void Add(ReadOnlySpan<char> piece, uint hash, ReadOnlySpan<int> ids)
    {
        if (_pieces >= MostPieces || _usedChars + piece.Length > _chars.Length || _usedIds + ids.Length > _ids.Length)
        {
            Clear();
        }

        uint at = hash & (Slots - 1);
        for (int probe = 0; probe < Probes; probe++, at = (at + 1) & (Slots - 1))
        {
            if (_slots[at].Length == 0)
            {
                _slots[at] = new Slot(hash, _usedChars, _usedIds, (byte)piece.Length, (byte)ids.Length);
                piece.CopyTo(_chars.AsSpan(_usedChars));
                ids.CopyTo(_ids.AsSpan(_usedIds));
                _usedChars += piece.Length;
                _usedIds += ids.Length;
                _pieces++;
                return;
            }
        }
    }

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        Array.Clear(_slots);
        (_usedChars, _usedIds, _pieces) = (0, 0, 0);
    }

    /// <summary>A hash that reads eight bytes at a time; words are short, so set-up costs would dominate a general one.</summary>
    public static uint Hash(ReadOnlySpan<char> piece)
    {
        ref byte start = ref Unsafe.As<char, byte>(ref MemoryMarshal.GetReference(piece));
        int bytes = piece.Length * 2;
        ulong hash = (uint)bytes;
        int at = 0;
        for (; at + 8 <= bytes; at += 8)
        {
            hash = Mix(hash ^ Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref start, at)));
        }

        if (at + 4 <= bytes)
        {
            hash = Mix(hash ^ Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref start, at)));
            at += 4;
        }

        if (at < bytes)
        {
            hash = Mix(hash ^ Unsafe.ReadUnaligned<ushort>(ref Unsafe.Add(ref start, at)));
        }

        return (uint)(hash >> 32) ^ (uint)hash;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Mix(ulong value)
    {
        ulong high = Math.BigMul(value ^ 0x9E3779B97F4A7C15UL, 0xD6E8FEB86659FD93UL, out ulong low);
        return high ^ low;
    }

    private readonly record struct Slot(uint Hash, int Chars, int Ids, byte Length, byte Count);
}
