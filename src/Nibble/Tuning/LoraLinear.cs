using Nibble.Backends;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>A linear layer with a low-rank adapter beside it: y = base(x) + s·B(A(dropout(x))).</summary>
/// <param name="inner">The layer below, which this one then owns.</param>
/// <param name="a"><c>[rank, in]</c>; belongs to the adapter.</param>
/// <param name="b"><c>[out, rank]</c>; belongs to the adapter.</param>
/// <param name="scale">The factor s.</param>
/// <param name="dropout">Probability that an input of the adapter is dropped in training.</param>
internal sealed class LoraLinear(ILinear inner, IPackedWeight a, IPackedWeight b, float scale, float dropout) : ILinear
{
    private readonly ulong _key = CounterRandom.Key(inner.Path);

    public string Path => inner.Path;

    public IPackedWeight Weight => inner.Weight;

    public Tensor? Bias => inner.Bias;

    public void Forward(Tensor x, Tensor y, in Pass pass)
    {
        using Workspace.Scope scope = pass.Workspace.Begin();
        Tensor narrow = pass.Workspace.Rent(new Shape(x.Shape.Rows, a.Out));
        inner.Forward(x, y, pass);
        Ops.MatMul.Forward(pass.Backend, Dropped(x, pass), a, null, narrow);
        Ops.LowRank.Scale(pass.Backend, narrow, scale);
        Ops.LowRank.Add(pass.Backend, narrow, b, y);
    }

    public void Dispose() => inner.Dispose();

    private Tensor Dropped(Tensor x, in Pass pass)
    {
        if (dropout == 0 || pass.DropoutKey == 0)
        {
            return x;
        }

        Tensor copy = pass.Workspace.Rent(x.Shape);
        Ops.CopyColumns.Forward(pass.Backend, x, 0, copy);
        Ops.LowRank.Dropout(pass.Backend, copy, CounterRandom.Key(pass.DropoutKey, _key), dropout);
        return copy;
    }
}
