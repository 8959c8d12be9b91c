using Nibble.Backends;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>
/// Scales of activations as optimum-quanto's <c>Calibration(momentum = 0.9, streamline = True)</c> finds them. Every sample is one batch; a scale is its
/// largest magnitude by 127, mixed into the one so far: s = 0.9·s + 0.1·s′. The samples run through the quantized weights and see inputs rounded on the
/// scales as they stand. Outputs are measured for every sample but rounded in the first alone: streamlining takes that away once the module
/// above has run (its search for functions that could take integers finds none, as its test compares a class with its subclasses). One block at a time, which gives the same scales as all blocks sample by
/// sample, since a layer's scale depends on the samples before it and not on the layers behind it.
/// </summary>
/// <param name="plan">Which matrices are quantized, and whose activations are rounded.</param>
/// <param name="load">Gives a dense matrix, F32.</param>
internal sealed class ActivationCalibration(QuantPlan plan, Func<LinearSpec, Tensor> load)
{
    /// <summary>True: outputs are rounded in the first sample only.</summary>
    public bool Streamline { get; init; } = true;

    /// <summary>Called with each block before its layers are quantized: those that the plan leaves dense must be there.</summary>
    public Action<Block>? BeforeBlock { get; init; }

    /// <summary>Called with each block when its scales are known: nobody needs its layers any more.</summary>
    public Action<Block>? AfterBlock { get; init; }

    /// <summary>The scales of every layer, by path; the model's layers are replaced on the way. Blocks that the journal has are not run again.</summary>
    public IReadOnlyDictionary<string, StaticActivations> Measure(
        CausalModel model, IReadOnlyList<int[]> samples, long memoryBytes = 4L << 30, DType states = DType.F32, Action<string>? done = null, CancellationToken cancellation = default,
        CalibrationJournal? journal = null)
    {
        Dictionary<string, PlannedTensor> planned = plan.Quantized.ToDictionary(tensor => tensor.Spec.Path);
        Dictionary<string, StaticActivations> scales = [];
        using Workspace workspace = new(model.Backend);
        using KvCache cache = new(model, 1, samples[0].Length, oneLayer: true);
        bool onDisk = (long)samples.Count * samples[0].Length * model.Facts.Hidden * states.Size() > memoryBytes;
        List<SampleBatch> batches = [];
        try
        {
            batches.AddRange(samples.Select(sample => new SampleBatch(model, workspace, cache, [sample], onDisk, states)));
            Tensor[] hidden = [.. batches.Select(batch => batch.Hidden)];
            foreach ((string path, StaticActivations found) in Restore(journal, hidden, model.Blocks.Count))
            {
                scales[path] = found;
                done?.Invoke(path);
            }

            for (int index = journal?.Finished ?? 0; index < model.Blocks.Count; index++)
            {
                Block block = model.Blocks[index];
                BeforeBlock?.Invoke(block);
                List<MeasuredLinear> measured = Quantize(block, planned, model.Backend);
                foreach (SampleBatch batch in batches)
                {
                    cancellation.ThrowIfCancellationRequested();
                    using Workspace.Scope scope = workspace.Begin();
                    Tensor opened = batch.Open(workspace);
                    CausalModel.RunBlock(block, opened, batch.Pass);
                    batch.Close(opened);
                }

                foreach (MeasuredLinear linear in measured)
                {
                    scales[linear.Path] = linear.Scales;
                    done?.Invoke(linear.Path);
                }

                AfterBlock?.Invoke(block);
                Remember(journal, index, index == model.Blocks.Count - 1 ? [] : hidden, measured);
            }
        }
        finally
        {
            batches.ForEach(batch => batch.Dispose());
        }

        return scales;
    }

    /// <summary>The scales of the blocks that an earlier run finished; the hidden states behind them are put in place.</summary>
    private static List<(string Path, StaticActivations Scales)> Restore(CalibrationJournal? journal, Tensor[] hidden, int blocks)
    {
        List<(string, StaticActivations)> found = [];
        for (int block = 0; block < journal?.Finished; block++)
        {
            // A damaged file ends what counts, and the states behind the blocks before it are gone.
            found.AddRange(journal.Read(block, reader => (reader.ReadString(), new StaticActivations(reader.ReadSingle(), reader.ReadSingle()))) ?? []);
        }

        // Behind the last block nobody needs states.
        bool stands = journal is null || journal.Finished == 0 || journal.Finished == blocks || journal.ReadStates(journal.Finished - 1, hidden);
        return stands ? found : [];
    }

    private static void Remember(CalibrationJournal? journal, int block, Tensor[] hidden, List<MeasuredLinear> measured)
    {
        if (journal is null)
        {
            return;
        }

        // In this order there are states for every number of finished blocks, whenever the process ends.
        journal.WriteStates(block, hidden);
        journal.Write(block, measured, (writer, linear) =>
        {
            writer.Write(linear.Path);
            writer.Write(linear.Scales.Input);
            writer.Write(linear.Scales.Output);
        });
        journal.DropStates(block - 1);
    }

    /// <summary>Puts the quantized weights of a block in place, and something that measures around those whose activations are rounded.</summary>
    private List<MeasuredLinear> Quantize(Block block, Dictionary<string, PlannedTensor> planned, IBackend backend)
    {
        List<MeasuredLinear> measured = [];
        foreach (ILinear linear in block.Linears.ToArray())
        {
            if (!planned.TryGetValue(linear.Path, out PlannedTensor? tensor))
            {
                continue;
            }

            using Tensor dense = load(tensor.Spec);
            using QuantizedWeight weight = Registry.Method(tensor.Settings!.Method).Quantize(tensor.Spec.WeightName, dense, tensor.Settings);
            IPackedWeight packed = WeightPacking.Pack(weight, tensor.Spec, backend, ActivationChoice.F32);
            BlockCalibration.Put(block, linear, packed, inner =>
            {
                if (tensor.Settings.ActivationBits is null)
                {
                    return inner;
                }

                measured.Add(new MeasuredLinear(inner, Streamline));
                return measured[^1];
            });
        }

        return measured;
    }

    /// <summary>A layer that measures its inputs and outputs, and rounds them on what it has found so far.</summary>
    private sealed class MeasuredLinear(ILinear inner, bool streamline) : ILinear
    {
        private const float Momentum = 0.9f, Rest = (float)(1 - 0.9);

        private float _input = 1, _output = 1;
        private bool _first = true;

        public StaticActivations Scales => new(_input, _output);

        public string Path => inner.Path;

        public IPackedWeight Weight => inner.Weight;

        public Tensor? Bias => inner.Bias;

        public void Forward(Tensor x, Tensor y, in Pass pass)
        {
            using Workspace.Scope scope = pass.Workspace.Begin();
            _input = Update(_input, x);
            inner.Forward(RoundedLinear.Round(x, _input, pass), y, pass);
            _output = Update(_output, y);
            if (_first || !streamline)
            {
                RoundedLinear.Round(y, _output, y);
            }

            _first = false;
        }

        public void Dispose() => inner.Dispose();

        /// <summary>A scale of 1 is one that was never measured. Inputs that are all zero say nothing.</summary>
        private static float Update(float scale, Tensor values)
        {
            float found = VectorSearch.AbsMax(values.HostSpan<float>()) / StaticActivations.Largest;
            return found == 0 ? scale : scale == 1 ? found : (Momentum * scale) + (found * Rest);
        }
    }
}
