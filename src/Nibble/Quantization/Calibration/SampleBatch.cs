using Nibble.Backends;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>Some samples of one length on their way through a model: their hidden states, and what a pass needs to take them on.</summary>
internal sealed class SampleBatch : IDisposable
{
    private readonly Tensor _ids;
    private readonly Tensor _positions;

    /// <summary>Embeds the samples; <paramref name="cache"/> stays empty and may be shared by batches of one size. <paramref name="onDisk"/> keeps the hidden states in a file.</summary>
    public SampleBatch(CausalModel model, Workspace workspace, KvCache cache, IReadOnlyList<int[]> samples, bool onDisk = false)
    {
        int length = samples[0].Length;
        Shape rows = new((nint)samples.Count * length);
        _ids = Tensor.From<int>(rows, DType.I32, samples.SelectMany(sample => sample).ToArray());
        _positions = Tensor.From<int>(rows, DType.I32, samples.SelectMany(_ => Enumerable.Range(0, length)).ToArray());
        Pass = new Pass(model.Backend, workspace, new ModelInput(_ids, _positions, samples.Count, length), cache);
        Shape shape = new(rows.Count, model.Facts.Hidden);
        Hidden = onDisk
            ? new Tensor(shape, DType.F32, new SpillStorage(shape.Count * sizeof(float)))
            : model.Backend.Allocate(shape, DType.F32);
        model.Embed(Hidden, Pass);
    }

    /// <summary>Hidden states, F32 <c>[batch·length, hidden]</c>.</summary>
    public Tensor Hidden { get; }

    /// <summary>How blocks run on them.</summary>
    public Pass Pass { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ids.Dispose();
        _positions.Dispose();
        Hidden.Dispose();
    }
}
