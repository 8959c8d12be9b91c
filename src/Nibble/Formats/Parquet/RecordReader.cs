namespace Nibble.Formats.Parquet;

/// <summary>Puts rows together from columns by their levels (Dremel, section 4.1): each column's next entry says how deep it is defined and where it repeats.</summary>
internal sealed class RecordReader
{
    private readonly IReadOnlyList<ParquetNode> _fields;
    private readonly ColumnCursor[] _columns;
    private long _row;

    public RecordReader(IReadOnlyList<ParquetNode> fields, ColumnCursor[] columns)
    {
        (_fields, _columns) = (fields, columns);
        foreach (ColumnCursor column in columns)
        {
            column.MoveNext();
        }
    }

    /// <summary>The next row.</summary>
    public IReadOnlyDictionary<string, object?> Next()
    {
        _row++;
        OrderedDictionary<string, object?> row = Children(_fields);
        foreach (ColumnCursor column in _columns)
        {
            if (!column.Ended && column.Repetition != 0)
            {
                throw new ParquetDamage($"column {column.Node.Path}, row {_row:N0}: its levels do not fit the other columns");
            }
        }

        return row;
    }

    private OrderedDictionary<string, object?> Children(IReadOnlyList<ParquetNode> nodes)
    {
        OrderedDictionary<string, object?> values = new(nodes.Count, StringComparer.Ordinal);
        foreach (ParquetNode node in nodes)
        {
            values[node.Name] = Field(node);
        }

        return values;
    }

    private object? Field(ParquetNode node)
    {
        ColumnCursor first = First(node);
        if (node.Repetition == 0)
        {
            return Single(node);
        }

        bool there = first.Definition >= node.Definition;
        if (node.Repetition == 1)
        {
            return there ? Single(node) : Skip(node, null);
        }

        List<object?> list = [];
        if (!there)
        {
            return Skip(node, list);
        }

        do
        {
            list.Add(Single(node));
        }
        while (!first.Ended && first.Repetition == node.RepetitionLevel);

        return list;
    }

    private object? Single(ParquetNode node)
    {
        if (node.Column >= 0)
        {
            ColumnCursor column = First(node);
            object? value = column.Value;
            column.MoveNext();
            return value;
        }

        return node.Meaning switch
        {
            ParquetMeaning.List when node.Children is [{ Repetition: 2 } repeated] => Items(repeated, node.Name),
            ParquetMeaning.Map when node.Children is [{ Repetition: 2, Children.Count: 2 } pairs] => Map((List<object?>)Field(pairs)!, pairs),
            _ => Children(node.Children),
        };
    }

    /// <summary>A list's items: without the group in between, where there is one (the format's rules for older writers included).</summary>
    private object? Items(ParquetNode repeated, string name)
    {
        List<object?> items = (List<object?>)Field(repeated)!;
        bool wrapped = repeated.Children.Count == 1 && repeated.Name != "array" && repeated.Name != name + "_tuple";
        return wrapped ? items.ConvertAll(item => ((OrderedDictionary<string, object?>)item!)[repeated.Children[0].Name]) : items;
    }

    private static object Map(List<object?> pairs, ParquetNode node)
    {
        string key = node.Children[0].Name, value = node.Children[1].Name;
        OrderedDictionary<string, object?> map = new(StringComparer.Ordinal);
        foreach (OrderedDictionary<string, object?> pair in pairs.Cast<OrderedDictionary<string, object?>>())
        {
            map[Convert.ToString(pair[key], System.Globalization.CultureInfo.InvariantCulture) ?? string.Empty] = pair[value];
        }

        return map;
    }

    /// <summary>Nothing is there: every column below has one entry that says so.</summary>
    private object? Skip(ParquetNode node, object? value)
    {
        foreach (ParquetNode leaf in node.Leaves)
        {
            Entry(leaf).MoveNext();
        }

        return value;
    }

    private ColumnCursor First(ParquetNode node)
    {
        while (node.Column < 0)
        {
            node = node.Children[0];
        }

        return Entry(node);
    }

    private ColumnCursor Entry(ParquetNode leaf)
    {
        ColumnCursor column = _columns[leaf.Column];
        return column.Ended ? throw new ParquetDamage($"column {leaf.Path} ends before row {_row:N0}") : column;
    }
}
