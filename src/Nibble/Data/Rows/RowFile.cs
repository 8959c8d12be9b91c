using System.IO.Compression;
using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Data.Rows;

/// <summary>How the rows of a file are written.</summary>
internal enum FileForm
{
    /// <summary>The whole file is one text.</summary>
    Text,

    /// <summary>A JSON object a line.</summary>
    JsonLines,

    /// <summary>A JSON array of objects, or JSON lines under the wrong name.</summary>
    Json,

    /// <summary>Fields separated by commas, names in the first line.</summary>
    Csv,

    /// <summary>Fields separated by tabs, names in the first line.</summary>
    Tsv,

    /// <summary>Apache Parquet.</summary>
    Parquet,
}

/// <summary>A file of rows; its name's ending tells the form, <c>.gz</c> behind it that it is packed.</summary>
internal sealed class RowFile
{
    private static readonly Dictionary<string, FileForm> Endings = new(StringComparer.OrdinalIgnoreCase)
    {
        [".jsonl"] = FileForm.JsonLines,
        [".ndjson"] = FileForm.JsonLines,
        [".json"] = FileForm.Json,
        [".csv"] = FileForm.Csv,
        [".tsv"] = FileForm.Tsv,
        [".parquet"] = FileForm.Parquet,
    };

    private readonly Limits _limits;

    public RowFile(DataObject source, Limits limits)
    {
        (Source, _limits) = (source, limits);
        string name = PathOf(source.Name);
        IsGzip = name.EndsWith(".gz", StringComparison.OrdinalIgnoreCase);
        string ending = Path.GetExtension(IsGzip ? name[..^3] : name);
        Form = Endings.GetValueOrDefault(ending, FileForm.Text);
        if (ending is ".arrow" or ".zip" or ".zst" or ".xz" or ".bz2" or ".7z" or ".tar" or ".bin" or ".pt" or ".pkl" || (IsGzip && Form == FileForm.Parquet))
        {
            Throw.BadInput($"{source.Name} can't be read as data", $"files ending in {ending}{(IsGzip ? ".gz" : string.Empty)} are not", "give .jsonl, .json, .csv, .tsv, .txt (each also .gz) or .parquet");
        }
    }

    /// <summary>The bytes.</summary>
    public DataObject Source { get; }

    /// <summary>How it is written.</summary>
    public FileForm Form { get; }

    /// <summary>What places count: lines, where rows have any.</summary>
    public string Unit => Form is FileForm.Parquet or FileForm.Json ? "row" : "line";

    /// <summary>True if it is packed by gzip.</summary>
    public bool IsGzip { get; }

    /// <summary>True for forms with fields, false for plain text.</summary>
    public static bool HasRows(string name)
    {
        string path = PathOf(name);
        return Endings.ContainsKey(Path.GetExtension(path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? path[..^3] : path));
    }

    /// <summary>All rows.</summary>
    /// <exception cref="NibbleException">The file as a whole can't be read.</exception>
    public IEnumerable<RowRead> Rows()
    {
        if (Form == FileForm.Parquet)
        {
            return ParquetRows.Read(Source, _limits);
        }

        return Guarded(Read());
    }

    /// <summary>The unpacked bytes.</summary>
    public Stream Open()
    {
        Stream stream = Source.Open();
        return IsGzip ? new GZipStream(stream, CompressionMode.Decompress) : stream;
    }

    private IEnumerable<RowRead> Read()
    {
        using Stream stream = Open();
        IEnumerable<RowRead> rows = Form switch
        {
            FileForm.JsonLines => JsonLineRows.Read(new LineReader(stream, _limits), _limits),
            FileForm.Json => JsonRows.Read(stream, _limits),
            FileForm.Csv => CsvRows.Read(stream, ',', _limits),
            FileForm.Tsv => CsvRows.Read(stream, '\t', _limits),
            _ => TextRows.Read(stream, Source.Name),
        };
        foreach (RowRead row in rows)
        {
            yield return row;
        }
    }

    /// <summary>Damage of the packing becomes an error that names the file.</summary>
    private IEnumerable<RowRead> Guarded(IEnumerable<RowRead> rows)
    {
        using IEnumerator<RowRead> enumerator = rows.GetEnumerator();
        while (Next(enumerator))
        {
            yield return enumerator.Current;
        }
    }

    private bool Next(IEnumerator<RowRead> rows)
    {
        try
        {
            return rows.MoveNext();
        }
        catch (InvalidDataException error)
        {
            Throw.BadInput($"{Source.Name} is damaged", error.Message, "it should be a gzip file: get it again", error);
            return false;
        }
    }

    /// <summary>A URL's path without its query.</summary>
    private static string PathOf(string name) => name.Contains("://", StringComparison.Ordinal) ? name.Split('?', '#')[0] : name;
}
