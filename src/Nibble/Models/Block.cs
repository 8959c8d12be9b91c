using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>One transformer block: hidden states in, hidden states out, in place.</summary>
public abstract class Block : IDisposable
{
    private readonly ILinear[] _linears;

    /// <summary>Creates a block over its linear layers, which it then owns, in the order of the forward pass.</summary>
    protected Block(params ILinear[] linears) => _linears = linears;

    /// <summary>The linear layers, in the order of the forward pass.</summary>
    public IReadOnlyList<ILinear> Linears => _linears;

    /// <summary>hidden F32 <c>[batch·length, hidden]</c> becomes the block's output.</summary>
    public abstract void Forward(Tensor hidden, in Pass pass);

    /// <summary>Puts another layer in the place of each one for which <paramref name="replacement"/> gives one (an adapter around it, a recorder).</summary>
    public void Replace(Func<ILinear, ILinear> replacement)
    {
        for (int i = 0; i < _linears.Length; i++)
        {
            _linears[i] = replacement(_linears[i]);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (ILinear linear in _linears)
        {
            linear.Dispose();
        }

        GC.SuppressFinalize(this);
    }
}
