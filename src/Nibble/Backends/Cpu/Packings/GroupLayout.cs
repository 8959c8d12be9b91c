using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// How the columns of a row fall into groups, as a packing sees them: group of column c = <see cref="Map"/>[c], else c / Size.
/// Groups that do not fit rows (flat ones that cross them, HQQ's axis 0) become groups of one column.
/// </summary>
internal sealed record GroupLayout
{
    private readonly GroupOrder _order;
    private readonly nint _columns;
    private readonly nint _groupSize;
    private readonly nint _total;

    public GroupLayout(GroupOrder order, nint rows, nint columns, nint groupSize, int[]? map = null)
    {
        (_order, _columns, _groupSize, Map) = (order, columns, groupSize, map);
        _total = rows * columns / groupSize;
        Size = order switch
        {
            GroupOrder.AlongRow => nint.Min(groupSize, columns),
            GroupOrder.Flat when columns % groupSize == 0 => groupSize,
            GroupOrder.Flat when columns > 0 && groupSize % columns == 0 => columns,
            _ => 1,
        };
        Size = nint.Max(Size, 1);
        Count = (columns + Size - 1) / Size;
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    public static GroupLayout Open(PackReader reader, nint rows, nint columns)
    {
        (GroupOrder order, nint size, int[]? map) = ((GroupOrder)reader.Int(), reader.Size(), reader.Flag() ? reader.Ints() : null);
        return size > 0 && (map is null || map.Length == columns) ? new(order, rows, columns, size, map) : throw new InvalidDataException("groups do not fit the matrix");
    }

    /// <summary>Writes the layout; rows and columns are the packing's.</summary>
    public void Save(PackWriter writer)
    {
        writer.Number((int)_order);
        writer.Number(_groupSize);
        writer.Flag(Map is not null);
        if (Map is not null)
        {
            writer.Ints(Map);
        }
    }

    /// <summary>Columns of a group.</summary>
    public nint Size { get; }

    /// <summary>Groups of a row.</summary>
    public nint Count { get; }

    /// <summary>Act-order: the group of each column, or null.</summary>
    public int[]? Map { get; }

    /// <summary>Every column has a scale of its own, found by <see cref="Index"/>, since groups do not fit rows.</summary>
    public bool IsPerElement => Map is null && (_order == GroupOrder.Strided || (_order == GroupOrder.Flat && Size == 1 && _groupSize > 1));

    /// <summary>Groups are runs of columns that start where a word of codes starts, at any width.</summary>
    public bool IsAligned => Map is null && (Count <= 1 || Size % CodePanels.Alignment == 0);

    /// <summary>The group of the whole matrix, in the order of the quantized weight.</summary>
    public nint Index(nint row, nint group) => _order switch
    {
        GroupOrder.AlongRow => (row * Count) + group,
        GroupOrder.Flat => ((row * _columns) + (group * Size)) / _groupSize,
        _ => ((row * _columns) + group) % _total,
    };

    /// <summary>The same of a row's first group; no division where rows are made of whole groups.</summary>
    public nint FirstIndex(nint row) => _order == GroupOrder.AlongRow || (_order == GroupOrder.Flat && Size == _groupSize) ? row * Count : Index(row, 0);

    /// <summary>Keeps values given in the order of the quantized weight.</summary>
    public GroupValues Keep(float[] values, nint rows, int lanes) => IsPerElement
        ? new ElementValues(values, this, rows, lanes)
        : GroupValues.Create(rows, Count, lanes, (row, group) => values[Index(row, group)]);

    /// <summary>Values in the order of the quantized weight again.</summary>
    public float[] Restore(GroupValues values, nint rows, nint total)
    {
        if (values is ElementValues elements)
        {
            return elements.Values;
        }

        float[] result = new float[checked((int)total)];
        for (nint row = 0; row < rows; row++)
        {
            for (nint group = 0; group < Count; group++)
            {
                result[Index(row, group)] = values.At(row, group);
            }
        }

        return result;
    }
}

/// <summary>Values whose groups do not fit rows: kept as the quantized weight has them, spread to one per element when read.</summary>
internal sealed unsafe class ElementValues : GroupValues
{
    public const string Kind = "elements";

    private readonly GroupLayout _layout;
    private readonly nint _rows;
    private readonly float[] _values;

    public ElementValues(float[] values, GroupLayout layout, nint rows, int lanes)
        : base(lanes) => (_values, _layout, _rows) = (values, layout, rows);

    /// <summary>A copy of the values.</summary>
    public float[] Values => [.. _values];

    public override nint ByteLength => sizeof(float) * _values.Length;

    public override float* Read(nint panel, nint group, nint count, float* buffer)
    {
        for (int lane = 0; lane < Lanes; lane++)
        {
            nint row = (panel * Lanes) + lane;
            for (nint k = 0; k < count; k++)
            {
                buffer[(k * Lanes) + lane] = row < _rows ? _values[_layout.Index(row, group + k)] : 0;
            }
        }

        return buffer;
    }

    public override void Save(PackWriter writer)
    {
        writer.Text(Kind);
        writer.Floats(_values);
    }

    public override void Dispose()
    {
    }
}
