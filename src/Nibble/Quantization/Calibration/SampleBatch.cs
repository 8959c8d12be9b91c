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
        _ids = TokenBatch.Upload(model.Backend, [.. samples.SelectMany(sample => sample)]);
        _positions = TokenBatch.Upload(model.Backend, [.. samples.SelectMany(_ => Enumerable.Range(0, length))]);
        Pass = new Pass(model.Backend, workspace, new ModelInput(_ids, _positions, samples.Count, length), cache) { Activations = model.Backend.Computes(DType.BF16) ? DType.BF16 : DType.F32 };
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

    /// <summary>The hidden states as F32 where blocks run: themselves, or widened or copied into memory of the workspace.</summary>
    public Tensor Open(Workspace workspace)
    {
        if (Hidden.DType == DType.F32 && Hidden.IsOnHost == _ids.IsOnHost)
        {
            return Hidden;
        }

        Tensor opened = workspace.Rent(Hidden.Shape);
        if (opened.IsOnHost)
        {
            TensorConvert.BF16ToF32(Hidden.HostSpan<ushort>(), opened.HostSpan<float>());
        }
        else if (!Hidden.IsOnHost)
        {
            Pass.Backend.Gradients.Copy(Hidden, opened);
        }
        else
        {
            Tensor stored = Hidden.DType == DType.F32 ? opened : workspace.Rent(Hidden.Shape, Hidden.DType);
            Pass.Backend.CopyFromHost(Bytes(), stored);
            CopyOnDevice(stored, opened);
        }

        return opened;
    }

    /// <summary>Keeps what a block made of <see cref="Open"/>'s tensor.</summary>
    public void Close(Tensor opened)
    {
        if (opened == Hidden)
        {
            return;
        }

        if (opened.IsOnHost)
        {
            TensorConvert.F32ToBF16(opened.HostSpan<float>(), Hidden.HostSpan<ushort>());
        }
        else if (!Hidden.IsOnHost)
        {
            Pass.Backend.Gradients.Copy(opened, Hidden);
        }
        else
        {
            using Tensor? stored = Hidden.DType == DType.F32 ? null : Pass.Backend.Allocate(Hidden.Shape, Hidden.DType);
            CopyOnDevice(opened, stored ?? opened);
            Pass.Backend.CopyToHost(stored ?? opened, Bytes());
        }
    }

    private void CopyOnDevice(Tensor source, Tensor target)
    {
        if (source != target)
        {
            Pass.Backend.Gradients.Copy(source, target);
        }
    }

    private unsafe Span<byte> Bytes() => new(Hidden.HostPointer, checked((int)Hidden.ByteLength));

    /// <inheritdoc/>
    public void Dispose()
    {
        _ids.Dispose();
        _positions.Dispose();
        Hidden.Dispose();
    }
}
