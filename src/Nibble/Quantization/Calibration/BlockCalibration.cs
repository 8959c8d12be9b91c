using Nibble.Backends;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>What one step of a calibration did, for progress and reports.</summary>
/// <param name="Block">Index of the block.</param>
/// <param name="Blocks">Number of blocks.</param>
/// <param name="Path">The layer that was quantized.</param>
/// <param name="Tokens">Rows of activations that it was calibrated on.</param>
/// <param name="DeadInputs">Input features that were always zero.</param>
public sealed record CalibrationStep(int Block, int Blocks, string Path, long Tokens, int DeadInputs);

/// <summary>
/// Takes samples through a model one block at a time. Each block sees the outputs of the already quantized blocks before it; its
/// layers are quantized with the statistics of those inputs and put in place, and only then the samples go on. In memory are the
/// model, one set of hidden states, and the statistics of layers that share an input.
/// </summary>
public sealed class BlockCalibration : IDisposable
{
    // Rows of hidden states that go through a block at once.
    private const int BatchRows = 4096;

    private readonly CausalModel _model;
    private readonly List<SampleBatch> _batches = [];
    private readonly List<KvCache> _caches = [];
    private readonly Workspace _workspace;
    private readonly bool _sequential;

    /// <summary>Embeds the samples.</summary>
    /// <param name="model">A dense model; its layers are replaced on the way.</param>
    /// <param name="samples">Token sequences of one length.</param>
    /// <param name="sequential">True (as GPTQ's reference code by default): layers that feed other layers of the same block are quantized first.</param>
    public BlockCalibration(CausalModel model, IReadOnlyList<int[]> samples, bool sequential = true)
    {
        _model = model;
        _workspace = new Workspace(model.Backend);
        _sequential = sequential;
        int length = samples[0].Length;
        int rows = Math.Max(1, BatchRows / length);
        for (int i = 0; i < samples.Count; i += rows)
        {
            int[][] part = [.. samples.Skip(i).Take(rows)];
            _batches.Add(new SampleBatch(model, _workspace, CacheFor(part.Length, length), part));
        }
    }

    /// <summary>
    /// Quantizes every layer of every block: <paramref name="quantize"/> gets its path and the statistics of its inputs and returns
    /// the packed weight that takes its place. Layers that <paramref name="wanted"/> leaves out stay as they are, and cost no statistics.
    /// </summary>
    public void Run(
        Func<string, GramStatistics, IPackedWeight> quantize, Action<CalibrationStep>? progress = null, CancellationToken cancellation = default, Func<string, bool>? wanted = null)
    {
        for (int index = 0; index < _model.Blocks.Count; index++)
        {
            Block block = _model.Blocks[index];
            List<List<ILinear>> groups = Groups(block);
            if (wanted is not null)
            {
                groups = [.. groups.Select(group => group.FindAll(linear => wanted(linear.Path))).Where(group => group.Count > 0)];
            }

            foreach (List<List<ILinear>> stage in Stages(groups))
            {
                foreach ((List<ILinear> group, GramStatistics statistics) in Record(block, stage))
                {
                    foreach (ILinear linear in group)
                    {
                        cancellation.ThrowIfCancellationRequested();
                        Put(block, linear, quantize(linear.Path, statistics));
                        progress?.Invoke(new(index, _model.Blocks.Count, linear.Path, statistics.Tokens, statistics.DeadInputs));
                    }
                }
            }

            Advance(block);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable item in _batches.Concat<IDisposable>(_caches))
        {
            item.Dispose();
        }

        _workspace.Dispose();
    }

    // A block starts from an empty cache each time, so all batches of one size share one.
    private KvCache CacheFor(int batch, int length)
    {
        if (_caches.Find(cache => cache.Batch == batch) is not { } found)
        {
            found = new KvCache(_model, batch, length);
            _caches.Add(found);
        }

        return found;
    }

    /// <summary>Layers that read the same input one after another (query, key, value; gate, up), in the order of the forward pass.</summary>
    private List<List<ILinear>> Groups(Block block)
    {
        List<List<ILinear>> groups = [];
        nint last = 0;
        Observe(block, (linear, x) =>
        {
            nint input = AddressOf(x);
            if (groups.Count == 0 || input != last)
            {
                groups.Add([]);
            }

            groups[^1].Add(linear);
            last = input;
        }, _batches.Take(1));
        return groups;
    }

    private static unsafe nint AddressOf(Tensor x) => (nint)x.HostPointer;

    private IEnumerable<List<List<ILinear>>> Stages(List<List<ILinear>> groups) =>
        _sequential ? groups.Select(group => new List<List<ILinear>> { group }) : [groups];

    private List<(List<ILinear> Group, GramStatistics Statistics)> Record(Block block, List<List<ILinear>> groups)
    {
        Dictionary<ILinear, GramAccumulator> byFirst = groups.ToDictionary(
            group => group[0], group => new GramAccumulator((int)group[0].Weight.In, _model.Backend));
        int recorded = 0;
        Observe(block, (linear, x) =>
        {
            if (byFirst.TryGetValue(linear, out GramAccumulator? accumulator))
            {
                accumulator.Add(x);
                if (++recorded % byFirst.Count == 0)
                {
                    // Nothing behind this layer is asked for: the rest of the block need not run.
                    throw new EndOfObservation();
                }
            }
        }, _batches);
        List<(List<ILinear>, GramStatistics)> result = [.. groups.Select(group => (group, byFirst[group[0]].Finish()))];
        foreach (GramAccumulator accumulator in byFirst.Values)
        {
            accumulator.Dispose();
        }

        return result;
    }

    /// <summary>Runs the block over copies of the hidden states and shows the inputs of its layers.</summary>
    private void Observe(Block block, Action<ILinear, Tensor> seen, IEnumerable<SampleBatch> batches)
    {
        block.Replace(linear => new RecordingLinear(linear, seen));
        try
        {
            foreach (SampleBatch batch in batches)
            {
                using Workspace.Scope scope = _workspace.Begin();
                Tensor copy = _workspace.Rent(batch.Hidden.Shape);
                batch.Hidden.HostSpan<float>().CopyTo(copy.HostSpan<float>());
                try
                {
                    block.Forward(copy, batch.Pass);
                }
                catch (EndOfObservation)
                {
                    // This batch is done.
                }
            }
        }
        finally
        {
            block.Replace(linear => ((RecordingLinear)linear).Inner);
        }
    }

    private void Advance(Block block)
    {
        foreach (SampleBatch batch in _batches)
        {
            using Workspace.Scope scope = _workspace.Begin();
            block.Forward(batch.Hidden, batch.Pass);
        }
    }

    private static void Put(Block block, ILinear old, IPackedWeight weight) =>
        block.Replace(linear =>
        {
            if (linear != old)
            {
                return linear;
            }

            PackedLinear replacement = new(old.Path, weight, old.Bias);
            old.Dispose();
            return replacement;
        });

    /// <summary>Ends a block's forward pass once everything that was asked for has been seen.</summary>
    private sealed class EndOfObservation : Exception;
}
