using Nibble.Backends;
using Nibble.Evaluation.Metrics;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Budget;

/// <summary>
/// How much a model's predictions suffer when one layer alone is quantized: mean KL divergence from the dense model over the tokens of
/// some samples. The samples wait in front of the layer's block, so that only the blocks from there on run again.
/// </summary>
internal sealed class SensitivityMeter : IDisposable
{
    // Rows whose logits stand in memory at once.
    private const int LogitRows = 64;

    private const int BatchRows = 1024;

    private readonly CausalModel _model;
    private readonly Workspace _workspace;
    private readonly KvCache _cache;
    private readonly List<SampleBatch> _batches = [];
    private readonly List<Tensor> _dense = [];
    private readonly float[] _base;
    private readonly float[] _other;

    /// <summary>Runs the dense model over the samples, and keeps its final hidden states.</summary>
    public SensitivityMeter(CausalModel model, IReadOnlyList<int[]> samples)
    {
        _model = model;
        _workspace = new Workspace(model.Backend);
        int length = samples[0].Length, each = Math.Clamp(BatchRows / length, 1, samples.Count);
        _cache = new KvCache(model, each, length);
        _base = new float[LogitRows * model.Facts.Vocabulary];
        _other = new float[LogitRows * model.Facts.Vocabulary];
        // Only whole batches: they share the cache.
        foreach (int[][] part in samples.Chunk(each).Where(part => part.Length == each))
        {
            SampleBatch batch = new(model, _workspace, _cache, part);
            _batches.Add(batch);
            Tensor states = model.Backend.Allocate(batch.Hidden.Shape, DType.F32);
            batch.Hidden.HostSpan<float>().CopyTo(states.HostSpan<float>());
            RunFrom(model, 0, states, batch.Pass);
            _dense.Add(states);
        }
    }

    /// <summary>
    /// Visits the blocks in order; <paramref name="visit"/> gets each layer and a function that measures the divergence with another
    /// weight in its place (which it then owns and frees).
    /// </summary>
    public void Run(Action<ILinear, Func<IPackedWeight, double>> visit)
    {
        for (int index = 0; index < _model.Blocks.Count; index++)
        {
            Block block = _model.Blocks[index];
            int first = index;
            foreach (ILinear linear in block.Linears.ToArray())
            {
                visit(linear, weight => Measure(block, first, linear, weight));
            }

            foreach (SampleBatch batch in _batches)
            {
                CausalModel.RunBlock(block, batch.Hidden, batch.Pass);
            }
        }
    }

    /// <summary>The divergence of another model of the same sizes from this one; not after <see cref="Run"/>.</summary>
    public double Of(CausalModel other)
    {
        double sum = 0;
        long rows = 0;
        for (int i = 0; i < _batches.Count; i++)
        {
            using Workspace.Scope scope = _workspace.Begin();
            Tensor states = _workspace.Rent(_batches[i].Hidden.Shape);
            _batches[i].Hidden.HostSpan<float>().CopyTo(states.HostSpan<float>());
            RunFrom(other, 0, states, _batches[i].Pass);
            sum += Divergences(_dense[i], states);
            rows += states.Shape.Rows;
        }

        return sum / rows;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable item in _batches.Concat<IDisposable>(_dense))
        {
            item.Dispose();
        }

        _cache.Dispose();
        _workspace.Dispose();
    }

    private double Measure(Block block, int first, ILinear linear, IPackedWeight weight)
    {
        using PackedLinear replacement = new(linear.Path, weight, linear.Bias);
        block.Replace(current => current == linear ? replacement : current);
        try
        {
            double sum = 0;
            long rows = 0;
            for (int i = 0; i < _batches.Count; i++)
            {
                using Workspace.Scope scope = _workspace.Begin();
                Tensor states = _workspace.Rent(_batches[i].Hidden.Shape);
                _batches[i].Hidden.HostSpan<float>().CopyTo(states.HostSpan<float>());
                RunFrom(_model, first, states, _batches[i].Pass);
                sum += Divergences(_dense[i], states);
                rows += states.Shape.Rows;
            }

            return sum / rows;
        }
        finally
        {
            block.Replace(current => current == replacement ? linear : current);
        }
    }

    private static void RunFrom(CausalModel model, int first, Tensor states, in Pass pass)
    {
        for (int i = first; i < model.Blocks.Count; i++)
        {
            CausalModel.RunBlock(model.Blocks[i], states, pass);
        }

        model.FinishHidden(states, pass);
    }

    private double Divergences(Tensor dense, Tensor changed)
    {
        double sum = 0;
        int vocabulary = _model.Facts.Vocabulary;
        for (nint row = 0; row < dense.Shape.Rows; row += LogitRows)
        {
            int count = (int)nint.Min(LogitRows, dense.Shape.Rows - row);
            Logits(dense.Slice(row, count), _base);
            Logits(changed.Slice(row, count), _other);
            double[] each = new double[count];
            Methods.Spread.Over(count, vocabulary, (from, to) =>
            {
                for (int i = (int)from; i < to; i++)
                {
                    each[i] = Divergence.Kl(_base.AsSpan(i * vocabulary, vocabulary), _other.AsSpan(i * vocabulary, vocabulary));
                }
            });
            sum += each.Sum();
        }

        return sum;
    }

    private void Logits(Tensor states, float[] values)
    {
        using Workspace.Scope scope = _workspace.Begin();
        Tensor logits = _workspace.Rent(new Shape(states.Shape.Rows, _model.Facts.Vocabulary));
        _model.Logits(states, logits);
        _model.Backend.Read(logits, values.AsSpan(0, (int)logits.Shape.Count));
    }
}
