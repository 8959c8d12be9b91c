using Nibble.Backends;
using Nibble.Formats;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>What a linear layer is for: plans quantize blocks, and leave the rest alone unless told otherwise.</summary>
public enum LinearRole
{
    /// <summary>A matrix of a transformer block.</summary>
    Block,

    /// <summary>The output head over the vocabulary.</summary>
    Head,

    /// <summary>The token embedding, seen as a matrix <c>[vocabulary, hidden]</c>; it is the head too where the two are tied.</summary>
    Embedding,

    /// <summary>A sequence-classification head.</summary>
    Classifier,
}

/// <summary>One matrix of an architecture, known from its configuration alone.</summary>
/// <param name="Path">Module path: the checkpoint's tensor name without <c>.weight</c>.</param>
/// <param name="Out">Output features.</param>
/// <param name="In">Input features.</param>
/// <param name="Role">What it is for.</param>
/// <param name="StoredTransposed">The checkpoint stores <c>[in, out]</c> (GPT-2's Conv1D).</param>
/// <param name="HasBias">A bias <c>[out]</c> stands beside it.</param>
/// <param name="Ternary">The architecture itself computes with ternary weights and int8 activations (BitNet): a source must pack it so.</param>
public sealed record LinearSpec(
    string Path, nint Out, nint In, LinearRole Role, bool StoredTransposed = false, bool HasBias = false, bool Ternary = false)
{
    /// <summary>The checkpoint's tensor name of the matrix.</summary>
    public string WeightName => Path + ".weight";

    /// <summary>The checkpoint's tensor name of the bias.</summary>
    public string BiasName => Path + ".bias";

    /// <summary>The shape as a dense checkpoint stores it.</summary>
    public Shape StoredShape => StoredTransposed ? new Shape(In, Out) : new Shape(Out, In);
}

/// <summary>One tensor that is no matrix of a linear layer: a norm, a bias, a position table.</summary>
/// <param name="Name">The checkpoint's tensor name.</param>
/// <param name="Shape">Its shape.</param>
public sealed record TensorSpec(string Name, Shape Shape);

/// <summary>Where a model gets its numbers from: a dense checkpoint, a quantized one, or one that is quantized while it loads.</summary>
public interface IWeightSource : IDisposable
{
    /// <summary>Where the numbers come from, for error messages: usually a path.</summary>
    string Source { get; }

    /// <summary>Names of all tensors, after the architecture's renaming.</summary>
    IReadOnlyCollection<string> Names { get; }

    /// <summary>The shape of a dense tensor, or null if there is none of this name.</summary>
    Shape? ShapeOf(string name);

    /// <summary>A dense tensor (norms, biases, position tables) on the host, without NaN or infinity; the caller disposes it.</summary>
    Tensor Tensor(string name);

    /// <summary>Why <see cref="Linear"/> would fail for this matrix (missing, another shape: both are told), or null. Reads no weights.</summary>
    string? Problem(LinearSpec spec);

    /// <summary>The packed weight of a linear layer, dense or quantized, always as <c>[out, in]</c>; the caller disposes it.</summary>
    IPackedWeight Linear(LinearSpec spec, IBackend backend);

    /// <summary>The low-rank repair of the matrix that <see cref="Linear"/> gave last, which the caller then owns; null if it has none.</summary>
    internal RepairTerm? Repair(LinearSpec spec, IBackend backend) => null;

    /// <summary>The fixed scales on which a layer's activations are rounded; null: they are not.</summary>
    internal StaticActivations? Activations(LinearSpec spec) => null;
}

/// <summary>A family of models: the <c>model_type</c>s it serves, its tensors, and how to build it.</summary>
public interface IArchitecture
{
    /// <summary>The <c>model_type</c> values of config.json that this family serves.</summary>
    IReadOnlyList<string> ModelTypes { get; }

    /// <summary>Sizes of the model that <paramref name="config"/> describes.</summary>
    ModelFacts Facts(ModelConfig config);

    /// <summary>Every matrix of the model, in the order of the forward pass; no weights are needed.</summary>
    IReadOnlyList<LinearSpec> Linears(ModelConfig config);

    /// <summary>Every other tensor of the model; with <see cref="Linears"/> all parameters of the model, tied ones once.</summary>
    IReadOnlyList<TensorSpec> Vectors(ModelConfig config);

    /// <summary>Where factors can move between the inputs of the blocks' layers and what gives those inputs, in the order of the forward pass.</summary>
    IReadOnlyList<ActivationFold> Folds(ModelConfig config);

    /// <summary>The module name of a checkpoint's tensor, or null if the tensor is to be ignored (<c>rotary_emb.inv_freq</c>).</summary>
    string? Sanitize(string tensorName);

    /// <summary>Builds the model from weights that have passed <see cref="ModelBuilder.Check"/>.</summary>
    CausalModel Build(ModelConfig config, IWeightSource weights, IBackend backend);
}
