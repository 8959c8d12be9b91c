using System.Text.Json;
using Nibble.Backends;
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

    /// <summary>The token embedding, seen as a matrix <c>[vocabulary, hidden]</c>.</summary>
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
public sealed record LinearSpec(string Path, nint Out, nint In, LinearRole Role, bool StoredTransposed = false, bool HasBias = false);

/// <summary>Where a model gets its numbers from: a dense checkpoint, a quantized one, or one that is quantized while it loads.</summary>
public interface IWeightSource
{
    /// <summary>Names of all tensors, after the architecture's renaming.</summary>
    IReadOnlyCollection<string> Names { get; }

    /// <summary>A dense tensor (norms, biases, embeddings, position tables) on the host; the caller disposes it.</summary>
    Tensor Tensor(string name);

    /// <summary>True if the tensor exists.</summary>
    bool Has(string name);

    /// <summary>The packed weight of a linear layer, dense or quantized, always as <c>[out, in]</c>.</summary>
    IPackedWeight Linear(LinearSpec spec, IBackend backend);
}

/// <summary>A family of models: the <c>model_type</c>s it serves, its matrices, and how to build it.</summary>
public interface IArchitecture
{
    /// <summary>The <c>model_type</c> values of config.json that this family serves.</summary>
    IReadOnlyList<string> ModelTypes { get; }

    /// <summary>Every matrix of the model that <paramref name="config"/> describes; no weights are needed.</summary>
    IReadOnlyList<LinearSpec> Linears(JsonElement config);

    /// <summary>The module name of a checkpoint's tensor, or null if the tensor is to be ignored (<c>rotary_emb.inv_freq</c>).</summary>
    string? Sanitize(string tensorName);

    /// <summary>Builds the model; all missing tensors and wrong shapes are reported at once.</summary>
    CausalModel Build(JsonElement config, IWeightSource weights, IBackend backend);
}
