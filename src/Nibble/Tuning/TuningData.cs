using Nibble.Data;
using Nibble.Evaluation.Classification;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Templates;

namespace Nibble.Tuning;

/// <summary>The rows of a fine-tuning: what it trains on and, if given, what it is measured on.</summary>
internal sealed class TuningData
{
    private readonly FineTuneOptions _options;
    private readonly LabeledSet? _train, _heldOut;
    private readonly int _trainSkipped, _heldOutSkipped;

    /// <summary>Reads the texts of a classification, whose labels must be known before the model is loaded; other data is read by <see cref="Tokenize"/>.</summary>
    public TuningData(FineTuneOptions options)
    {
        _options = options;
        if (!options.Classification)
        {
            return;
        }

        _train = LabeledRows.Read(options.Data!, "train", options.Labels ?? LabelsOfBase(options), options.SkipBad, out _trainSkipped);
        _heldOut = options.EvalData is null ? null : LabeledRows.Read(options.EvalData, "val", _train.Labels, options.SkipBad, out _heldOutSkipped);
    }

    /// <summary>Names of the labels; null for a language model.</summary>
    public IReadOnlyList<string>? Labels => _train?.Labels;

    /// <summary>The rows to train on.</summary>
    public TrainingSet Train { get; private set; } = new([], 0);

    /// <summary>The rows to measure on, or null.</summary>
    public TrainingSet? HeldOut { get; private set; }

    /// <summary>Makes rows of at most <paramref name="length"/> tokens.</summary>
    public void Tokenize(LoadedModel model, int length, Action<string>? note)
    {
        if (_train is not null)
        {
            Train = LabeledRows.Rows(_train, model.Tokenizer, length, _trainSkipped);
            HeldOut = _heldOut is null ? null : LabeledRows.Rows(_heldOut, model.Tokenizer, length, _heldOutSkipped);
            return;
        }

        DataOptions rows = Rows(note);
        Train = TrainingSetReader.Read(_options.Data!, model.Tokenizer, length, rows);
        Train = _options.Trainer.Packing ? RowPacker.Pack(Train, length) : Train;
        HeldOut = _options.EvalData is null ? null : TrainingSetReader.Read(_options.EvalData, model.Tokenizer, length, rows with { Split = _options.EvalSplit }, "validation", "test", "train");
    }

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
