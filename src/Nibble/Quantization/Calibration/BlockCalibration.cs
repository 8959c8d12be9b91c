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
/// model, one set of hidden states, the statistics of layers that share an input, and the intermediates of as many batches as
/// its memory allows: those need not run again from the start of the block for each of its layers.
/// </summary>
public sealed class BlockCalibration : IDisposable
{
    // Rows of hidden states that go through a block at once.
    private const int BatchRows = 4096;

    private const long DefaultMemoryBytes = 4L << 30;

    private readonly CausalModel _model;
    private readonly List<SampleBatch> _batches = [];
    private readonly List<KvCache> _caches = [];
    private readonly List<Workspace> _own = [];
    private readonly Workspace _shared;
    private readonly bool _sequential;
    private readonly long _keptBytes;

    /// <summary>Embeds the samples.</summary>
    /// <param name="model">A dense model; its layers are replaced on the way.</param>
    /// <param name="samples">Token sequences of one length.</param>
    /// <param name="memoryBytes">
    /// Bytes that hidden states and intermediates of batches between the layers of a block may take: hidden states beyond it go to a
    /// temporary file, batches without room start over for each layer. Results do not depend on it.
    /// </param>
    /// <param name="states">Dtype of hidden states between blocks: F32, or BF16 for half of the memory.</param>
    /// <param name="sequential">True: layers that feed other layers of the same block are quantized first (<c>--true-sequential</c> of GPTQ's authors).</param>
    public BlockCalibration(CausalModel model, IReadOnlyList<int[]> samples, bool sequential = true, long memoryBytes = DefaultMemoryBytes, DType states = DType.F32)
    {
        long bytes = (long)samples.Count * samples[0].Length * model.Facts.Hidden * states.Size();
        bool onDisk = bytes > memoryBytes;
        _keptBytes = onDisk ? memoryBytes : memoryBytes - bytes;
        _model = model;
        _shared = new Workspace(model.Backend);
        _sequential = sequential;
        int length = samples[0].Length;
        foreach (int[][] part in samples.Chunk(Math.Max(1, BatchRows / length)))
        {
            _batches.Add(new SampleBatch(model, _shared, CacheFor(part.Length, length), part, onDisk, states));
        }
    }

    /// <summary>Told how long statistics take.</summary>
    internal PhaseTimes? Times { get; init; }

    /// <summary>Called with each block when its inputs are known and its layers are still dense, which it may change.</summary>
    internal Action<Block>? BeforeBlock { get; set; }

    /// <summary>Called with each block when its outputs are known: nobody needs its layers any more.</summary>
    internal Action<Block>? AfterBlock { get; set; }

    /// <summary>Puts something around each layer that takes the place of another (a repair), or gives it back as it is.</summary>
    internal Func<ILinear, ILinear>? Around { get; set; }

    /// <summary>
    /// Quantizes every layer of every block: <paramref name="quantize"/> gets its path and the statistics of its inputs and returns
    /// the packed weight that takes its place. Layers that <paramref name="wanted"/> leaves out stay as they are, and cost no statistics.
    /// Blocks that <paramref name="journal"/> has from an earlier run are taken from it.
    /// </summary>
    public void Run(
        Func<string, GramStatistics, IPackedWeight> quantize, Action<CalibrationStep>? progress = null, CancellationToken cancellation = default, Func<string, bool>? wanted = null, IBlockJournal? journal = null)
    {
        for (int index = 0; index < _model.Blocks.Count; index++)
        {
            Block block = _model.Blocks[index];
            BeforeBlock?.Invoke(block);
            if (index == 0)
            {
                Probe();
            }

            List<(int Input, ILinear[] Layers)> groups = Groups(block, wanted);
            RunBlock(index, block, groups, quantize, progress, cancellation, journal);
            AfterBlock?.Invoke(block);
        }
    }

    private void RunBlock(
        int index, Block block, List<(int Input, ILinear[] Layers)> groups, Func<string, GramStatistics, IPackedWeight> quantize, Action<CalibrationStep>? progress, CancellationToken cancellation,
        IBlockJournal? journal)
    {
        bool isLast = index == _model.Blocks.Count - 1;
        using BlockWalk walk = new(block, _batches, _own, _shared);
        if (journal?.Restore(index) is { } restore)
        {
            foreach (ILinear linear in groups.SelectMany(group => group.Layers))
            {
                cancellation.ThrowIfCancellationRequested();
                Put(block, linear, restore(linear.Path), Around);
            }

            Finish(walk, isLast);
            return;
        }

        foreach ((ILinear[] layers, GramStatistics statistics) in _sequential ? OneByOne(walk, groups) : Together(walk, groups))
        {
            using IDeviceGram? device = statistics.Device;
            foreach (ILinear linear in layers)
            {
                cancellation.ThrowIfCancellationRequested();
                Put(block, linear, quantize(linear.Path, statistics with { Layer = linear.Path }), Around);
                progress?.Invoke(new(index, _model.Blocks.Count, linear.Path, statistics.Tokens, statistics.DeadInputs));
            }
        }

        journal?.Finished(index);
        Finish(walk, isLast);
        KeepMore();
    }

    /// <summary>The inputs of some layers of a block as it stands; layers that share an input share statistics. What stands on a device is the caller's.</summary>
    public IReadOnlyDictionary<string, GramStatistics> Measure(Block block, IReadOnlyCollection<string> paths)
    {
        using BlockWalk walk = new(block, _batches, [], _shared);
        return Together(walk, Groups(block, paths.Contains))
            .SelectMany(item => item.Layers.Select(linear => KeyValuePair.Create(linear.Path, item.Statistics))).ToDictionary();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable item in _batches.Concat<IDisposable>(_caches).Concat(_own).Append(_shared))
        {
            item.Dispose();
        }
    }

    /// <summary>The wanted layers of a block by the input that they read.</summary>
    private static List<(int Input, ILinear[] Layers)> Groups(Block block, Func<string, bool>? wanted) => [.. block.Inputs
        .Select((range, input) => (input, block.Linears.Take(range).Where(linear => wanted?.Invoke(linear.Path) != false).ToArray()))
        .Where(group => group.Item2.Length > 0)];

    // A block starts from an empty cache each time, and no two passes are between its write and its read: all batches of a size share one.
    private KvCache CacheFor(int batch, int length)
    {
        if (_caches.Find(cache => cache.Batch == batch) is not { } found)
        {
            found = new KvCache(_model, batch, length, first: _model.Virtual?.Count ?? 0, oneLayer: true, numbers: _model.Backend.Computes(DType.BF16) ? DType.BF16 : DType.F32);
            _caches.Add(found);
        }

        return found;
    }

    /// <summary>Nobody reads what the last block gives.</summary>
    private static void Finish(BlockWalk walk, bool isLast)
    {
        if (!isLast)
        {
            walk.Finish();
        }
    }

    /// <summary>One batch through one block tells what the intermediates of a batch take: without it all batches of the first block would start over for each layer.</summary>
    private void Probe()
    {
        if (_own.Count == 0 && _batches.Count > 1 && _model.Blocks.Count > 0)
        {
            using BlockWalk walk = new(_model.Blocks[0], [_batches[0]], [], _shared);
            walk.Peek(int.MaxValue, (_, _) => { });
            KeepMore();
        }
    }

    /// <summary>After the first pass it is known what the intermediates of a batch take.</summary>
    private void KeepMore()
    {
        long each = _own.Count > 0 ? _own[0].ByteLength : _shared.ByteLength;
        while (_own.Count < _batches.Count && (_own.Count + 1) * each <= _keptBytes)
        {
            _own.Add(new Workspace(_model.Backend));
        }
    }

    /// <summary>The inputs of each group are seen only when the groups before it have been replaced.</summary>
    private IEnumerable<(ILinear[] Layers, GramStatistics Statistics)> OneByOne(BlockWalk walk, List<(int Input, ILinear[] Layers)> groups)
    {
        foreach ((int input, ILinear[] layers) in groups)
        {
            IGramCollector accumulator = Collector(layers[0]);
            walk.Visit(input, accumulator.Add);
            yield return (layers, accumulator.Finish());
        }
    }

    /// <summary>The inputs of all groups are those of the dense block.</summary>
    private IEnumerable<(ILinear[] Layers, GramStatistics Statistics)> Together(BlockWalk walk, List<(int Input, ILinear[] Layers)> groups)
    {
        Dictionary<int, IGramCollector> accumulators = groups.ToDictionary(group => group.Input, group => Collector(group.Layers[0]));
        if (groups.Count > 0)
        {
            walk.Peek(groups[^1].Input, (input, x) => accumulators.GetValueOrDefault(input)?.Add(x));
        }

        foreach ((int input, ILinear[] layers) in groups)
        {
            yield return (layers, accumulators[input].Finish());
        }
    }

    private IGramCollector Collector(ILinear layer) =>
        _model.Backend.Quantizer?.Collect((int)layer.Weight.In, Times) ?? new GramAccumulator((int)layer.Weight.In, _model.Backend, Times);

    /// <summary>Puts another weight in the place of a layer's.</summary>
    internal static void Put(Block block, ILinear old, IPackedWeight weight, Func<ILinear, ILinear>? around = null) =>
        block.Replace(linear =>
        {
            if (linear != old)
            {
                return linear;
            }

            PackedLinear replacement = new(old.Path, weight, old.Bias);
            old.Dispose();
            return around is null ? replacement : around(replacement);
        });
}
