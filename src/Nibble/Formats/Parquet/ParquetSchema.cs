namespace Nibble.Formats.Parquet;

/// <summary>Physical types.</summary>
internal enum ParquetType
{
    /// <summary>One bit.</summary>
    Boolean,

    /// <summary>32 bits.</summary>
    Int32,

    /// <summary>64 bits.</summary>
    Int64,

    /// <summary>96 bits: an old form of times.</summary>
    Int96,

    /// <summary>32-bit real.</summary>
    Float,

    /// <summary>64-bit real.</summary>
    Double,

    /// <summary>Bytes of any length.</summary>
    ByteArray,

    /// <summary>Bytes of one length.</summary>
    FixedLenByteArray,
}

/// <summary>What a group or a value means.</summary>
internal enum ParquetMeaning
{
    /// <summary>What its type says.</summary>
    Plain,

    /// <summary>UTF-8.</summary>
    Text,

    /// <summary>A list over one repeated child.</summary>
    List,

    /// <summary>Pairs of key and value.</summary>
    Map,

    /// <summary>A whole number without sign.</summary>
    Unsigned,

    /// <summary>A whole number times a power of ten.</summary>
    Decimal,

    /// <summary>16-bit real.</summary>
    Float16,
}

/// <summary>A node of the schema.</summary>
internal sealed class ParquetNode
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Names from the root, joined by points.</summary>
    public required string Path { get; init; }

    /// <summary>0 required, 1 optional, 2 repeated.</summary>
    public required int Repetition { get; init; }

    /// <summary>Definition level at which it is there.</summary>
    public required int Definition { get; init; }

    /// <summary>Repetition level at which it repeats.</summary>
    public required int RepetitionLevel { get; init; }

    /// <summary>What it means.</summary>
    public required ParquetMeaning Meaning { get; init; }

    /// <summary>Type of a leaf's values.</summary>
    public ParquetType Type { get; init; }

    /// <summary>Bytes of a value of fixed length.</summary>
    public int TypeLength { get; init; }

    /// <summary>Power of ten of decimals.</summary>
    public int Scale { get; init; }

    /// <summary>Number of a leaf's column; −1 for a group.</summary>
    public int Column { get; init; } = -1;

    /// <summary>Children of a group.</summary>
    public IReadOnlyList<ParquetNode> Children { get; set; } = [];

    /// <summary>Leaves below, itself if it is one.</summary>
    public IEnumerable<ParquetNode> Leaves => Column >= 0 ? [this] : Children.SelectMany(child => child.Leaves);
}

/// <summary>Makes the tree of the footer's flat list.</summary>
internal sealed class ParquetSchema
{
    private const int DeepestNesting = 32;
    private readonly IReadOnlyList<ThriftStruct> _elements;
    private int _at, _columns;

    private ParquetSchema(IReadOnlyList<ThriftStruct> elements) => _elements = elements;

    /// <summary>The top-level fields.</summary>
    public static IReadOnlyList<ParquetNode> Read(IReadOnlyList<ThriftStruct> elements)
    {
        ParquetSchema schema = new(elements);
        ThriftStruct root = schema.Next();
        IReadOnlyList<ParquetNode> fields = schema.Children(root, string.Empty, 0, 0, 0);
        if (schema._at != elements.Count || schema._columns == 0)
        {
            throw new ParquetDamage(schema._columns == 0 ? "the schema has no columns" : "the schema has more elements than its tree");
        }

        return fields;
    }

    private ThriftStruct Next() => _at < _elements.Count ? _elements[_at++] : throw new ParquetDamage("the schema ends early");

    private List<ParquetNode> Children(ThriftStruct parent, string path, int definition, int repetition, int depth)
    {
        if (depth > DeepestNesting)
        {
            throw new ParquetDamage("the schema is nested too deeply");
        }

        int count = parent.Count(5, _elements.Count, "the number of a group's children");
        List<ParquetNode> children = new(count);
        for (int i = 0; i < count; i++)
        {
            children.Add(Node(path, definition, repetition, depth));
        }

        return children;
    }

    private ParquetNode Node(string parent, int definition, int repetition, int depth)
    {
        ThriftStruct element = Next();
        string name = element.Text(4), path = parent.Length == 0 ? name : parent + "." + name;
        int kind = element.Count(3, 2, "a repetition type");
        definition += kind > 0 ? 1 : 0;
        repetition += kind == 2 ? 1 : 0;
        bool group = element.Number(5, 0) > 0;
        int type = group ? 0 : element.Count(1, 7, "a type");
        int length = !group && type == (int)ParquetType.FixedLenByteArray ? element.Count(2, 1 << 20, "the length of a value") : 0;
        ParquetNode node = new()
        {
            Name = name,
            Path = path,
            Repetition = kind,
            Definition = definition,
            RepetitionLevel = repetition,
            Meaning = MeaningOf(element),
            Type = (ParquetType)type,
            TypeLength = length,
            Scale = element.Has(7) ? element.Count(7, 38, "a scale") : 0,
            Column = group ? -1 : _columns++,
        };
        node.Children = group ? Children(element, path, definition, repetition, depth + 1) : [];
        return node;
    }

    /// <summary>The newer field (a union) wins over the older one (a number).</summary>
    private static ParquetMeaning MeaningOf(ThriftStruct element)
    {
        if (element.Find(10) is { } logical)
        {
            return logical.Has(1) || logical.Has(4) || logical.Has(12) ? ParquetMeaning.Text
                : logical.Has(2) ? ParquetMeaning.Map
                : logical.Has(3) ? ParquetMeaning.List
                : logical.Has(5) ? ParquetMeaning.Decimal
                : logical.Has(15) ? ParquetMeaning.Float16
                : logical.Find(10) is { } integer && !integer.Flag(2, true) ? ParquetMeaning.Unsigned
                : ParquetMeaning.Plain;
        }

        return element.Number(6, -1L) switch
        {
            0 or 4 or 19 => ParquetMeaning.Text,
            1 or 2 => ParquetMeaning.Map,
            3 => ParquetMeaning.List,
            5 => ParquetMeaning.Decimal,
            >= 11 and <= 14 => ParquetMeaning.Unsigned,
            _ => ParquetMeaning.Plain,
        };
    }
}
