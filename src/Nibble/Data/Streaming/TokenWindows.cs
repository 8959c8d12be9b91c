using Nibble.Data.Rows;
using Nibble.IO;

namespace Nibble.Data.Streaming;

/// <summary>
/// The endless stream of windows: the units in the order of each epoch, cut into windows by their tokens. From any window's start the
/// stream goes on as it would have gone on there.
/// </summary>
internal static class TokenWindows
{
    /// <summary>All windows from the one that begins at <paramref name="place"/>.</summary>
    /// <exception cref="NibbleException">Rows can't be used, or an epoch has none.</exception>
    public static IEnumerable<TokenWindow> From(StreamUnits units, StreamSettings settings, StreamPosition place)
    {
        for (StreamPosition start = place with { Row = 0 }; ; start = new StreamPosition(start.Epoch + 1, 0, 0, 0, 0))
        {
            bool any = start != StreamPosition.Start with { Epoch = start.Epoch };
            foreach (TokenWindow window in Epoch(units, settings, start).Where(window => window.Rows.Length > 0))
            {
                any = true;
                yield return window;
            }

            if (!any)
            {
                Throw.BadInput($"{settings.Source} has no tokens to train on", "it is empty, or every row was left out", "give a text file or JSON lines");
            }
        }
    }

    private static IEnumerable<TokenWindow> Epoch(StreamUnits units, StreamSettings settings, StreamPosition start)
    {
        StreamUnit[] order = units.Order(settings.Seed, start.Epoch);
        TokenWindowBuilder window = new(settings, start);
        for (int number = start.Unit; number < order.Length; number++)
        {
            long read = 0, skip = number == start.Unit ? start.Skip : 0;
            bool inside = false;
            foreach (RowRead row in order[number].Rows())
            {
                bool begins = !inside && !Continues(order[number], row);
                inside = row.Continues;
                if (read++ < skip)
                {
                    continue;
                }

                window.Add(order[number], row, begins);
                if (window.IsFull)
                {
                    yield return window.Close();
                    window = new TokenWindowBuilder(settings, new StreamPosition(start.Epoch, number, read, 0, 0));
                }
            }

            if (inside)
            {
                window.Break();
            }
        }

        yield return window.Close();
    }

    /// <summary>True for a part of a text that is not its first.</summary>
    private static bool Continues(StreamUnit unit, RowRead row) => unit is TextUnit && row.Place > 0;
}
