using Nibble.Backends;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Nn;

/// <summary>What every module needs during one forward pass.</summary>
/// <param name="Backend">Where the model lives.</param>
/// <param name="Workspace">Memory for intermediates.</param>
/// <param name="Input">The new tokens.</param>
/// <param name="Cache">Keys and values; <see cref="KvCache.Length"/> slots were filled before this pass.</param>
public readonly record struct Pass(IBackend Backend, Workspace Workspace, ModelInput Input, KvCache Cache)
{
    /// <summary>Key of this pass's dropout; 0 drops nothing (everything but training).</summary>
    public ulong DropoutKey { get; init; }

    /// <summary>True while parameters change from pass to pass: nothing that depends on them may be kept.</summary>
    public bool Training { get; init; }

    /// <summary>Numbers of intermediates beside the residual stream: F32, or BF16 in training on a device that computes so.</summary>
    public DType Activations { get; init; }

    /// <summary>Kernels that do several ops at once, where the backend has them and nothing stands between the ops.</summary>
    internal IFusedKernels? Fused => Training || Virtual?.Stand(this) == false ? null : Backend.Kernels as IFusedKernels;

    /// <summary>An intermediate from the workspace.</summary>
    public Tensor Rent(Shape shape) => Workspace.Rent(shape, Activations);

    /// <summary>Memory for what no backward pass reads, or can compute again; it is used again by every block. Null where everything comes from <see cref="Workspace"/>.</summary>
    internal Workspace? Scratch { get; init; }

    /// <summary>Of a training on a device that knows when a layer's result is read by nobody; else null.</summary>
    internal Tape? Tape { get; init; }

    /// <summary>A place for a result where <paramref name="old"/> must be kept for a backward pass on a device: writing beside it is cheaper than copying it first. Elsewhere the same place.</summary>
    internal Tensor Beside(Tensor old) => Scratch is null ? old : Rent(old.Shape);

    /// <summary>The same for what lives shortly: from <see cref="Scratch"/>.</summary>
    internal Tensor Briefly(Tensor old) => Scratch is null ? old : Scratch.Rent(old.Shape, Activations);

    /// <summary>Starts a scope of <see cref="Scratch"/>, or of nothing.</summary>
    internal Workspace.Scope? BeginScratch() => Scratch?.Begin();

    /// <summary>Keys and values before every row's tokens.</summary>
    internal VirtualTokens? Virtual { get; init; }

    /// <summary>Embeddings in the place of some tokens.</summary>
    internal PromptRows? Prompt { get; init; }
}
