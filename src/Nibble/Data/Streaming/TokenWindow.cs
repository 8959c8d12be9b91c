using Nibble.Data.Rows;
using Nibble.Tensors;
using Nibble.Tokenization;

namespace Nibble.Data.Streaming;

/// <summary>Rows of tokens in their final order.</summary>
/// <param name="Rows">The rows.</param>
/// <param name="Start">Where the window begins; its <see cref="StreamPosition.Row"/> is 0.</param>
/// <param name="Skipped">Rows of the files that could not be used.</param>
/// <param name="Truncated">Examples that were cut.</param>
internal sealed record TokenWindow(TrainingRow[] Rows, StreamPosition Start, int Skipped, int Truncated);

/// <summary>How rows become windows.</summary>
/// <param name="Source">What the user named.</param>
/// <param name="Tokenizer">The model's tokenizer.</param>
/// <param name="RowLength">Most tokens of a row.</param>
/// <param name="Packing">Several short examples in one row.</param>
/// <param name="Seed">Seed of the order.</param>
/// <param name="Options">How the data is read.</param>
/// <param name="WindowTokens">Tokens of a window: the memory of the stream.</param>
internal sealed record StreamSettings(string Source, Tokenizer Tokenizer, int RowLength, bool Packing, ulong Seed, DataOptions Options, int WindowTokens = StreamSettings.UsualWindow)
{
    /// <summary>8 MB as identifiers and targets.</summary>
    public const int UsualWindow = 1 << 20;
}

/// <summary>Collects rows until there are enough, and shuffles them. A window depends on nothing before it.</summary>
internal sealed class TokenWindowBuilder
{
    private readonly StreamSettings _settings;
    private readonly StreamPosition _start;
    private readonly List<TrainingRow> _rows = [];
    private readonly RowEncoder _encoder;
    private readonly RowProblems _problems = new();
    private long _tokens;

    public TokenWindowBuilder(StreamSettings settings, StreamPosition start)
    {
        (_settings, _start) = (settings, start);
        _encoder = new RowEncoder(settings.Tokenizer, settings.RowLength, settings.Options.ChatTemplate, Take);
    }

    /// <summary>True once it has its tokens.</summary>
    public bool IsFull => _tokens >= _settings.WindowTokens;

    /// <summary>Adds a row of a file.</summary>
    public void Add(StreamUnit unit, RowRead row, bool begins)
    {
        (Example? example, string? problem) = row.Fields is null ? (null, row.Problem) : RowShape.Of(row.Fields, unit.File.Form == FileForm.Text ? RowFormat.Auto : _settings.Options.Format);
        problem ??= _encoder.Add(example!, row.Continues, begins);
        if (problem is not null)
        {
            _problems.Add(unit.File, row.Place, problem, unit.PlacesAreBytes);
        }
    }

    /// <summary>Ends a text that does not go on with what comes next.</summary>
    public void Break() => _encoder.Finish();

    /// <summary>The window.</summary>
    public TokenWindow Close()
    {
        _encoder.Finish();
        _problems.Settle(_settings.Source, _settings.Options);
        TrainingRow[] rows = _settings.Packing ? [.. RowPacker.Pack(new TrainingSet(_rows, 0), _settings.RowLength).Rows] : [.. _rows];
        CounterRandom.Shuffle(rows.AsSpan(), CounterRandom.Key(_settings.Seed, (ulong)_start.Epoch, (ulong)_start.Unit, (ulong)_start.Skip));
        return new TokenWindow(rows, _start, _problems.Count, _encoder.Truncated);
    }

    private void Take(TrainingRow row)
    {
        _rows.Add(row);
        _tokens += row.Ids.Length;
    }
}
