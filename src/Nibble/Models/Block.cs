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

    /// <summary>Which layers read one input, in the order of the forward pass: places in <see cref="Linears"/>.</summary>
    public abstract IReadOnlyList<Range> Inputs { get; }

    /// <summary>How many matrices of equal height stand above each other in the weight of a layer, given its place in <see cref="Linears"/>.</summary>
    public virtual int MatricesOf(int linear) => 1;

    /// <summary>hidden F32 <c>[batch·length, hidden]</c> becomes the block's output.</summary>
    public virtual void Forward(Tensor hidden, in Pass pass)
    {
        foreach (Tensor input in Steps(hidden, pass))
        {
            // Nobody looks at the inputs of the layers.
        }
    }

    /// <summary>
    /// The same as <see cref="Forward"/>, step by step: stops with the input of each entry of <see cref="Inputs"/>, F32
    /// <c>[batch·length, in]</c>, before its layers run, and goes on when asked to. Layers may be replaced meanwhile.
    /// </summary>
    public abstract IEnumerable<Tensor> Steps(Tensor hidden, Pass pass);

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
