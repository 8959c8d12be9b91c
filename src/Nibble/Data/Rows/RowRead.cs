namespace Nibble.Data.Rows;

/// <summary>One row of a file, or why there is none.</summary>
/// <param name="Place">Line or row, from 1.</param>
/// <param name="Fields">Its fields: null, bool, long, double, string, lists and dictionaries.</param>
/// <param name="Problem">Why it can't be used.</param>
/// <param name="Continues">True if the next row goes on with the same text.</param>
internal sealed record RowRead(long Place, IReadOnlyDictionary<string, object?>? Fields, string? Problem = null, bool Continues = false)
{
    /// <summary>A row that is one text.</summary>
    public static RowRead OfText(long place, string text, bool continues = false) =>
        new(place, new Dictionary<string, object?>(StringComparer.Ordinal) { ["text"] = text }, null, continues);
}
