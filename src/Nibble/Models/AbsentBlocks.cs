using Nibble.Backends;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>The weights of a source without the blocks' matrices, of which only the sizes are told.</summary>
/// <param name="inner">The source, which stays the owner of its file.</param>
/// <param name="head">False: a head of its own is left out too.</param>
internal sealed class AbsentBlocks(IWeightSource inner, bool head = true) : IWeightSource
{
    public string Source => inner.Source;

    public IReadOnlyCollection<string> Names => inner.Names;

    public Shape? ShapeOf(string name) => inner.ShapeOf(name);

    public Tensor Tensor(string name) => inner.Tensor(name);

    public string? Problem(LinearSpec spec) => inner.Problem(spec);

    public IPackedWeight Linear(LinearSpec spec, IBackend backend) =>
        spec.Role == LinearRole.Block || (!head && spec.Role is LinearRole.Head or LinearRole.Classifier) ? new AbsentWeight(spec.Out, spec.In) : inner.Linear(spec, backend);

    RepairTerm? IWeightSource.Repair(LinearSpec spec, IBackend backend) => inner.Repair(spec, backend);

    StaticActivations? IWeightSource.Activations(LinearSpec spec) => inner.Activations(spec);

    // The source stays the owner of the file.
    public void Dispose()
    {
    }
}

/// <summary>Stands for a matrix that is not in memory.</summary>
internal sealed class AbsentWeight(nint outFeatures, nint inFeatures) : IPackedWeight
{
    public nint Out => outFeatures;

    public nint In => inFeatures;

    public nint ByteLength => 0;

    public string Name => "absent";

    public ActivationType Activations => ActivationType.F32;

    public double? OutlierShare => null;

    public QuantizedWeight? Unpack() => null;

    public void Dispose()
    {
    }
}
