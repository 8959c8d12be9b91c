using Nibble.Data;
using Nibble.Data.Streaming;
using Nibble.Evaluation.Classification;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Templates;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>The rows of a fine-tuning: what it trains on and, if given, what it is measured on.</summary>
internal sealed class TuningData
{
    private readonly FineTuneOptions _options;
    private readonly LabeledSet? _train, _heldOut;
    private readonly int _trainSkipped, _heldOutSkipped;

    /// <summary>Reads the texts of a classification, whose labels must be known before the model is loaded; other data is read by <see cref="Tokenize"/>.</summary>
    public TuningData(FineTuneOptions options, Action<string>? note = null)
    {
        _options = options;
        if (!options.Classification)
        {
            return;
        }

        DataOptions rows = new() { SkipBad = options.SkipBad, Note = note };
        _train = LabeledRows.Read(options.Data!, "train", options.Labels ?? LabelsOfBase(options), rows, out _trainSkipped);
        _heldOut = options.EvalData is null ? null : LabeledRows.Read(options.EvalData, "val", _train.Labels, rows, out _heldOutSkipped);
    }

    /// <summary>Names of the labels; null for a language model.</summary>
    public IReadOnlyList<string>? Labels => _train?.Labels;

    /// <summary>The rows to train on; none where they are streamed.</summary>
    public TrainingSet Train { get; private set; } = new([], 0);

    /// <summary>Batches of data that is read while training, or null.</summary>
    public StreamedBatches? Stream { get; private set; }

    /// <summary>The rows to measure on, or null.</summary>
    public TrainingSet? HeldOut { get; private set; }

    /// <summary>Makes rows of at most <paramref name="length"/> tokens.</summary>
    public void Tokenize(LoadedModel model, int length, Action<string>? note)
    {
        if (_train is not null)
        {
            Train = Packed(LabeledRows.Rows(_train, model.Tokenizer, length, _trainSkipped), length);
            HeldOut = _heldOut is null ? null : LabeledRows.Rows(_heldOut, model.Tokenizer, length, _heldOutSkipped);
            return;
        }

        DataOptions rows = Rows(note);
        if (_options.Streaming)
        {
            Stream = OpenStream(model, length, rows);
        }
        else
        {
            Train = Packed(TrainingSetReader.Read(_options.Data!, model.Tokenizer, length, rows), length);
        }

        HeldOut = _options.EvalData is null ? null : TrainingSetReader.Read(_options.EvalData, model.Tokenizer, length, rows with { Split = _options.EvalSplit }, "validation", "test", "train");
    }

    /// <summary>Rows to train on (of streamed data: that were taken), rows that were left out, examples that were cut.</summary>
    public (int Rows, int Skipped, int Truncated) Counts => Stream is { } stream
        ? ((int)Math.Min(int.MaxValue, stream.Position!.Given), stream.Counts.Skipped, stream.Counts.Truncated)
        : (Train.Rows.Count, Train.Skipped, Train.Truncated);

    /// <summary>What there is, in words.</summary>
    public string Describe(int length) => Stream is not null
        ? $"data: {_options.Data}, read while training, in rows of up to {length} tokens"
        : $"data: {Train.Documents:N0} texts, {Train.Rows.Count:N0} rows of up to {length} tokens, {Train.ScoredTokens:N0} scored"
            + (Train.Truncated > 0 ? $"; {Train.Truncated:N0} examples were longer and are cut" : string.Empty)
            + (Labels is null ? string.Empty : $"; labels {string.Join(", ", Labels)}");

    /// <summary>Where the trainer takes its batches from; it disposes of them.</summary>
    public IBatchSource Batches() => Stream is { } stream
        ? stream
        : new Batcher(Train, _options.Trainer.BatchSize, _options.Trainer.GradAccumulationSteps, CounterRandom.Key((ulong)_options.Trainer.Seed));

    private StreamedBatches OpenStream(LoadedModel model, int length, DataOptions rows)
    {
        TrainerSettings trainer = _options.Trainer;
        DataSet set = TrainingSetReader.Open(_options.Data!, rows);
        StreamSettings settings = new(_options.Data!, model.Tokenizer, length, trainer.Packing, CounterRandom.Key((ulong)trainer.Seed), rows);
        return new StreamedBatches(set, settings, trainer.BatchSize, trainer.GradAccumulationSteps);
    }

    private TrainingSet Packed(TrainingSet set, int length) => _options.Trainer.Packing ? RowPacker.Pack(set, length) : set;

    private DataOptions Rows(Action<string>? note) => new()
    {
        Format = _options.Format,
        Split = _options.Split,
        SkipBad = _options.SkipBad,
        ChatTemplate = _options.ChatTemplate is { } file ? ChatTemplate.FromFile(file, tokensOf: _options.Model) : ChatTemplate.Find(_options.Model),
        Note = note,
    };

    /// <summary>The labels of a base that is a classifier already.</summary>
    private static IReadOnlyList<string>? LabelsOfBase(FineTuneOptions options)
    {
        IReadOnlyList<string> names = ClassificationHead.Names(ModelConfig.Open(options.Model));
        return names.Count == 0 ? null : names;
    }
}
