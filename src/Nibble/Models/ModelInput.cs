using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>The tokens of one forward pass.</summary>
/// <param name="Ids">I32 <c>[batch·length]</c>: the new tokens, row after row, on the model's backend.</param>
/// <param name="Positions">I32 <c>[batch·length]</c>: the position of each token (with left padding: cumulative mask − 1, at least 0).</param>
/// <param name="Batch">Rows.</param>
/// <param name="Length">New tokens per row.</param>
/// <param name="FirstKey">I32 <c>[batch]</c>: left padding of each row in slots, or null for none; or the first slot that each token sees (<see cref="AttentionArguments.FirstKey"/>).</param>
public readonly record struct ModelInput(Tensor Ids, Tensor Positions, int Batch, int Length, Tensor? FirstKey = null)
{
    /// <summary>Left padding of each row on the host; null for none.</summary>
    public int[]? Starts { get; init; }

    /// <summary>Rows of the hidden states: batch × length.</summary>
    public nint Rows => (nint)Batch * Length;
}

/// <summary>What every causal model says about itself.</summary>
/// <param name="ModelType">The <c>model_type</c> of its config.</param>
/// <param name="Vocabulary">Entries of the embedding.</param>
/// <param name="Context">Longest sequence that it was made for.</param>
/// <param name="Hidden">Width of the hidden states.</param>
/// <param name="Layers">Blocks.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="KvHeads">Key and value heads.</param>
/// <param name="HeadDim">Width of a head.</param>
/// <param name="Labels">Labels of the classification head; 0 without one.</param>
public sealed record ModelFacts(
    string ModelType, int Vocabulary, int Context, int Hidden, int Layers, int Heads, int KvHeads, int HeadDim, int Labels = 0);
