using System.Globalization;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>Tokens by id and ids by token. Ids may have holes; two tokens never share one.</summary>
internal sealed class Vocabulary
{
    private readonly Dictionary<string, int> _ids = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _byText;
    private readonly string _source;
    private readonly Limits _limits;
    private string?[] _texts = new string?[1024];

    public Vocabulary(string source, Limits limits)
    {
        _source = source;
        _limits = limits;
        _byText = _ids.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    /// <summary>Largest id + 1.</summary>
    public int Size { get; private set; }

    /// <summary>Number of tokens.</summary>
    public int Count => _ids.Count;

    /// <summary>Texts by id; null for an unused id.</summary>
    public ReadOnlySpan<string?> TextSpan => _texts.AsSpan(0, Size);

    /// <summary>Texts by id; null for an unused id.</summary>
    public IReadOnlyList<string?> Texts => new ArraySegment<string?>(_texts, 0, Size);

    /// <summary>Adds a token of untrusted origin.</summary>
    public void Add(string text, long id)
    {
        if (id < 0 || id >= _limits.VocabularyEntries)
        {
            Throw.BadInput($"{_source}: token '{Shorten(text)}' has id {id}", $"ids go from 0 to {_limits.VocabularyEntries - 1:N0}", "download the file again");
        }

        int place = (int)id;
        if (place < Size && _texts[place] is string other)
        {
            Throw.BadInput($"{_source}: id {id} is given twice", $"to '{Shorten(other)}' and to '{Shorten(text)}'", "download the file again");
        }

        if (!_ids.TryAdd(text, place))
        {
            Throw.BadInput($"{_source}: token '{Shorten(text)}' is there twice", $"with ids {_ids[text]} and {id}", "download the file again");
        }

        if (place >= _texts.Length)
        {
            Array.Resize(ref _texts, Math.Max(place + 1, _texts.Length * 2));
        }

        _texts[place] = text;
        Size = Math.Max(Size, place + 1);
    }

    /// <summary>The id of a token.</summary>
    public bool TryGet(string text, out int id) => _ids.TryGetValue(text, out id);

    /// <summary>The id of a token.</summary>
    public bool TryGet(ReadOnlySpan<char> text, out int id) => _byText.TryGetValue(text, out id);

    /// <summary>The id of a token of bytes, written in <see cref="ByteAlphabet"/>.</summary>
    public bool TryGetBytes(ReadOnlySpan<byte> bytes, out int id)
    {
        Span<char> text = bytes.Length <= 128 ? stackalloc char[bytes.Length] : new char[bytes.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            text[i] = ByteAlphabet.CharOf(bytes[i]);
        }

        return TryGet(text, out id);
    }

    /// <summary>The ids of single bytes, −1 where there is none.</summary>
    public int[] ByteIds()
    {
        int[] ids = new int[256];
        for (int value = 0; value < 256; value++)
        {
            ids[value] = TryGet(ByteAlphabet.CharOf((byte)value).ToString(), out int id) ? id : -1;
        }

        return ids;
    }

    /// <summary>The ids of <c>&lt;0x00&gt;</c> to <c>&lt;0xFF&gt;</c>, or null if one is missing: then unknown characters cannot fall back.</summary>
    public int[]? FallbackIds()
    {
        int[] ids = new int[256];
        for (int value = 0; value < 256; value++)
        {
            if (!TryGet(string.Create(CultureInfo.InvariantCulture, $"<0x{value:X2}>"), out ids[value]))
            {
                return null;
            }
        }

        return ids;
    }

    /// <summary>A text short enough for an error message.</summary>
    public static string Shorten(string text) => text.Length > 40 ? text[..40] + "…" : text;
}
