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

    /// <summary>Embeds the samples.</summary>
    /// <param name="model">The model.</param>
    /// <param name="workspace">Memory for passes.</param>
    /// <param name="cache">It stays empty and may be shared by batches of one size.</param>
    /// <param name="samples">Token sequences of one length.</param>
    /// <param name="onDisk">Hidden states stand in a file.</param>
    /// <param name="states">Dtype of the hidden states between blocks: F32 or BF16.</param>
    public SampleBatch(CausalModel model, Workspace workspace, KvCache cache, IReadOnlyList<int[]> samples, bool onDisk = false, DType states = DType.F32)
    {
        int length = samples[0].Length;
        Shape rows = new((nint)samples.Count * length);
        _ids = Tensor.From<int>(rows, DType.I32, samples.SelectMany(sample => sample).ToArray());
        _positions = Tensor.From<int>(rows, DType.I32, samples.SelectMany(_ => Enumerable.Range(0, length)).ToArray());
        Pass = new Pass(model.Backend, workspace, new ModelInput(_ids, _positions, samples.Count, length), cache);
        Shape shape = new(rows.Count, model.Facts.Hidden);
        Hidden = onDisk
            ? new Tensor(shape, states, new SpillStorage(shape.Count * states.Size()))
            : model.Backend.Allocate(shape, states);
        using Workspace.Scope scope = workspace.Begin();
        Tensor opened = Open(workspace);
        model.Embed(opened, Pass);
        Close(opened);
    }

    /// <summary>Hidden states as they are kept between blocks, <c>[batch·length, hidden]</c>.</summary>
    public Tensor Hidden { get; }

    /// <summary>How blocks run on them.</summary>
    public Pass Pass { get; }

    /// <summary>The hidden states as F32 to run a block on: themselves, or widened into memory of the workspace.</summary>
    public Tensor Open(Workspace workspace)
    {
        if (Hidden.DType == DType.F32)
        {
            return Hidden;
        }

        Tensor opened = workspace.Rent(Hidden.Shape);
        TensorConvert.BF16ToF32(Hidden.HostSpan<ushort>(), opened.HostSpan<float>());
        return opened;
    }

    /// <summary>Keeps what a block made of <see cref="Open"/>'s tensor.</summary>
    public void Close(Tensor opened)
    {
        if (opened != Hidden)
        {
            TensorConvert.F32ToBF16(opened.HostSpan<float>(), Hidden.HostSpan<ushort>());
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ids.Dispose();
        _positions.Dispose();
        Hidden.Dispose();
    }
}
