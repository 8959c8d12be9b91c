using System.Text;
using Nibble.IO;

namespace Nibble.Data.Rows;

/// <summary>A plain text: one row, or several that go on with each other, so that no text is too large.</summary>
internal static class TextRows
{
    /// <summary>Characters of one part.</summary>
    private const int PartLength = 8 << 20;

    /// <summary>The parts, cut where a line ends.</summary>
    /// <exception cref="NibbleException">It is no text in UTF-8.</exception>
    public static IEnumerable<RowRead> Read(Stream stream, string name)
    {
        using StreamReader reader = new(stream, new UTF8Encoding(false, throwOnInvalidBytes: true), detectEncodingFromByteOrderMarks: false);
        StringBuilder held = new();
        char[] buffer = new char[1 << 16];
        long place = 1;
        bool begun = false;
        for (int read = Fill(reader, buffer, name); read > 0; read = Fill(reader, buffer, name))
        {
            int mark = !begun && buffer[0] == '\uFEFF' ? 1 : 0;
            begun = true;
            held.Append(buffer, mark, read - mark);
            if (held.Length < PartLength)
            {
                continue;
            }

            string text = held.ToString();
            int cut = text.LastIndexOf('\n') + 1;
            cut = cut == 0 ? text.Length - (char.IsHighSurrogate(text[^1]) ? 1 : 0) : cut;
            held.Clear().Append(text, cut, text.Length - cut);
            yield return RowRead.OfText(place, text[..cut], continues: true);
            place += text.AsSpan(0, cut).Count('\n');
        }

        yield return RowRead.OfText(place, held.ToString());
    }

    private static int Fill(StreamReader reader, char[] buffer, string name)
    {
        try
        {
            return reader.ReadBlock(buffer, 0, buffer.Length);
        }
        catch (DecoderFallbackException error)
        {
            Throw.BadInput($"{name} is no text in UTF-8", error.Message, "convert it to UTF-8, or name another file", error);
            return 0;
        }
    }
}
