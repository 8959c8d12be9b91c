namespace Nibble.Generation;

/// <summary>Looks for stop texts in a stream, and holds back what may become one.</summary>
internal sealed class StopStrings(IReadOnlyList<string> stops)
{
    private string _held = string.Empty;

    /// <summary>True once a stop text came; everything from its beginning on is dropped.</summary>
    public bool Stopped { get; private set; }

    /// <summary>Adds text, and returns what can no longer belong to a stop text.</summary>
    public string Add(string text)
    {
        if (stops.Count == 0 || Stopped)
        {
            return Stopped ? string.Empty : text;
        }

        string all = _held + text;
        int found = stops.Select(stop => all.IndexOf(stop, StringComparison.Ordinal)).Where(at => at >= 0).DefaultIfEmpty(-1).Min();
        Stopped = found >= 0;
        int certain = Stopped ? found : all.Length - LongestBeginning(all);
        _held = Stopped ? string.Empty : all[certain..];
        return all[..certain];
    }

    /// <summary>The text that was held back, when no more will come.</summary>
    public string Flush()
    {
        string rest = _held;
        _held = string.Empty;
        return rest;
    }

    /// <summary>Length of the longest end of <paramref name="text"/> with which a stop text begins.</summary>
    private int LongestBeginning(string text)
    {
        int most = Math.Min(text.Length, stops.Max(stop => stop.Length) - 1);
        for (int length = most; length > 0; length--)
        {
            string end = text[^length..];
            if (stops.Any(stop => stop.StartsWith(end, StringComparison.Ordinal)))
            {
                return length;
            }
        }

        return 0;
    }
}
