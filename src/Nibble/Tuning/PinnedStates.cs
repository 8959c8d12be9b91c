using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Optimizer states in memory of the host from which the card copies by itself, in the order of its queue: the card holds those of one
/// parameter at a time, and nobody waits.
/// </summary>
internal sealed class PinnedStates : StateStore
{
    private readonly ICudaDevice _device;
    private readonly StateSpec[][] _specs;
    private readonly nint[] _places;
    private readonly Tensor _memory;

    /// <summary>States of zeros.</summary>
    public PinnedStates(CudaBackend backend, StateSpec[][] specs)
    {
        (_device, _specs) = (backend.Memory.Device, specs);
        _memory = backend.Allocate(new Shape((nint)specs.Select(Bytes).DefaultIfEmpty(0).Max()), DType.U8);
        _places = [.. specs.Select(states => _device.AllocatePinned((nint)Math.Max(1, Bytes(states))))];
    }

    /// <inheritdoc/>
    public override long ByteLength => _memory.ByteLength + _specs.Sum(Bytes);

    /// <inheritdoc/>
    public override Tensor[] Take(int parameter)
    {
        _device.CopyIn(_places[parameter], CudaStorage.AddressOf(_memory), (nint)Bytes(_specs[parameter]));
        nint offset = 0;
        return [.. _specs[parameter].Select(state =>
        {
            Tensor view = new(new Shape(state.Count), state.DType, _memory.Storage, _memory.ByteOffset + offset, ownsStorage: false);
            offset += (nint)Bytes(state);
            return view;
        })];
    }

    /// <inheritdoc/>
    public override void Return(int parameter) => _device.CopyOut(CudaStorage.AddressOf(_memory), _places[parameter], (nint)Bytes(_specs[parameter]));

    /// <inheritdoc/>
    public override void Dispose()
    {
        _device.Synchronize();
        Array.ForEach(_places, _device.FreePinned);
        _memory.Dispose();
    }

    private static long Bytes(StateSpec[] states) => states.Sum(Bytes);

    // Rounded up, so that every state is aligned.
    private static long Bytes(StateSpec state) => (((long)state.Count * state.DType.Size()) + 63) / 64 * 64;
}
