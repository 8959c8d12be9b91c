namespace Nibble.Formats.Parquet;

/// <summary>The entries of one column, one after the other.</summary>
internal sealed class ColumnCursor(ParquetNode node, PageReader pages)
{
    private DataPage? _page;
    private int _at, _values;

    /// <summary>The column's node.</summary>
    public ParquetNode Node => node;

    /// <summary>True after the last entry.</summary>
    public bool Ended { get; private set; }

    /// <summary>Repetition level of the entry.</summary>
    public int Repetition { get; private set; }

    /// <summary>Definition level of the entry.</summary>
    public int Definition { get; private set; }

    /// <summary>Its value; null where it is not defined.</summary>
    public object? Value { get; private set; }

    /// <summary>Goes on.</summary>
    public void MoveNext()
    {
        while (_page is null || _at == _page.Count)
        {
            _page = pages.Next(node);
            (_at, _values) = (0, 0);
            if (_page is null)
            {
                Ended = true;
                return;
            }
        }

        Repetition = _page.Repetitions is { } repetitions ? repetitions[_at] : 0;
        Definition = _page.Definitions is { } definitions ? definitions[_at] : 0;
        Value = Definition == node.Definition ? _page.Values[_values++] : null;
        _at++;
    }
}

/// <summary>One page: levels of its entries (null where all are 0), and the values of those that are defined.</summary>
internal sealed record DataPage(int Count, int[]? Repetitions, int[]? Definitions, object?[] Values);
