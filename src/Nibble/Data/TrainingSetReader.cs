using Nibble.Data.Rows;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Data;

/// <summary>Turns data into rows of tokens.</summary>
public sealed class TrainingSetReader
{
    private readonly DataOptions _options;
    private readonly SpooledRows _rows = new();
    private readonly RowEncoder _encoder;
    private readonly RowProblems _problems = new();
    private int _documents;
    private bool _inside;

    private TrainingSetReader(Tokenizer tokenizer, int rowLength, DataOptions options) =>
        (_options, _encoder) = (options, new RowEncoder(tokenizer, rowLength, options.ChatTemplate, _rows.Add));

    /// <summary>Reads data: a file, a folder, an address or a name, see docs/data.md.</summary>
    /// <exception cref="NibbleException">Nothing there, nothing usable, or bad rows: the first few with file and line.</exception>
    public static TrainingSet Read(string data, Tokenizer tokenizer, int rowLength, bool skipBad = false) =>
        Read(data, tokenizer, rowLength, new DataOptions { SkipBad = skipBad });

    /// <summary>Reads data as <paramref name="options"/> say.</summary>
    /// <param name="data">A file, a folder, an address or a name.</param>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="rowLength">Most tokens of a row.</param>
    /// <param name="options">How to read it.</param>
    /// <param name="preferred">Splits in the order in which they are taken where <paramref name="options"/> name none.</param>
    public static TrainingSet Read(string data, Tokenizer tokenizer, int rowLength, DataOptions options, params string[] preferred)
    {
        DataSet set = Open(data, options, preferred);
        TrainingSetReader reader = new(tokenizer, rowLength, options);
        foreach (RowFile file in set.Files)
        {
            foreach (RowRead row in set.Rows(file))
            {
                reader.Add(file, row);
            }
        }

        return reader.Finish(data);
    }

    /// <summary>Finds data, and says what is to be known about it.</summary>
    internal static DataSet Open(string data, DataOptions options, params string[] preferred)
    {
        DataSet set = DataSet.Open(data, options.Split, options.Limits, preferred.Length > 0 ? preferred : ["train"]);
        if (set.Named?.Note is { } note)
        {
            options.Note?.Invoke(note);
        }

        return set;
    }

    private void Add(RowFile file, RowRead row)
    {
        bool begins = !_inside;
        _inside = row.Continues;
        (Example? example, string? problem) = row.Fields is null ? (null, row.Problem) : RowShape.Of(row.Fields, file.Form == FileForm.Text ? RowFormat.Auto : _options.Format);
        _documents += example is not null && begins ? 1 : 0;
        problem ??= _encoder.Add(example!, row.Continues, begins);
        if (problem is not null)
        {
            _problems.Add(file, row.Place, problem);
        }
    }

    private TrainingSet Finish(string source)
    {
        _encoder.Finish();
        _problems.Settle(source, _options);
        if (_rows.Count == 0)
        {
            Throw.BadInput($"{source} has no tokens to train on", "it is empty, or every row was left out", "give a text file or JSON lines");
        }

        return new TrainingSet(_rows, _documents, _encoder.Truncated, _problems.Count);
    }
}
