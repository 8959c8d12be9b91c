using Nibble.Data;
using Nibble.Evaluation.Baselines;
using Nibble.Models;

namespace Nibble.Tuning.Merging;

/// <summary>Measures models on held-out rows, beside base and adapter.</summary>
internal sealed class MergeMeasure : IDisposable
{
    private readonly TrainingSet _heldOut;
    private readonly CancellationToken _cancellation;
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-merge-").FullName;
    private double _base, _adapter;
    private BaselineFacts? _facts;

    public MergeMeasure(TrainingSet heldOut, CancellationToken cancellation) => (_heldOut, _cancellation) = (heldOut, cancellation);

    private string Baseline => Path.Combine(_folder, "baseline");

    /// <summary>The base without the adapter; measured first.</summary>
    public MergeQuality Base(CausalModel model)
    {
        _base = HeldOut.Nll(model, _heldOut, _cancellation);
        return new MergeQuality(_base, null, null);
    }

    /// <summary>Base and adapter; measured second.</summary>
    public MergeQuality Adapter(CausalModel model)
    {
        _facts = BaselineFacts.Of("rows", "held out", "the same", (int)_heldOut.ScoredTokens, model.Facts.Vocabulary);
        using BaselineWriter writer = new(Baseline, _facts);
        float[] losses = HeldOut.Losses(model, _heldOut, writer, _cancellation);
        writer.Commit(losses);
        _adapter = Mean(losses);
        return new MergeQuality(_adapter, null, null);
    }

    /// <summary>Any other model.</summary>
    public MergeQuality Of(CausalModel model)
    {
        using BaselineReader reader = BaselineReader.Open(Baseline, _facts!);
        double nll = Mean(HeldOut.Losses(model, _heldOut, reader, _cancellation));
        return new MergeQuality(nll, Mean(reader.Kl), _adapter < _base ? (_base - nll) / (_base - _adapter) : null);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static double Mean(float[] values) => values.Sum(value => (double)value) / values.Length;
}
