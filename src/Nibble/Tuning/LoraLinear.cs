using Nibble.Backends;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>A linear layer with a low-rank adapter beside it: y = base(x) + s·B(A(dropout(x))).</summary>
/// <param name="inner">The layer below, which this one then owns.</param>
/// <param name="pair">A and B; they belong to the adapter.</param>
/// <param name="dropout">Probability that an input of the adapter is dropped in training.</param>
internal sealed class LoraLinear(ILinear inner, LoraPair pair, float dropout) : ILinear
{
    private readonly LowRankPath _path = new(inner.Path, pair, dropout);

    public string Path => inner.Path;

    public IPackedWeight Weight => inner.Weight;

    public Tensor? Bias => inner.Bias;

    public void Forward(Tensor x, Tensor y, in Pass pass)
    {
        using Workspace.Scope scope = pass.Workspace.Begin();
        if (pass.Activations == DType.BF16 && _path.CanWrite && inner is PackedLinear { Bias: null, Weight.Activations: ActivationType.F32 })
        {
            // The narrow way first: the large product then adds to what it wrote while it computes; the other way round is a pass over y.
            _path.WriteTo(_path.Dropped(x, pass), y, pass);
            Ops.LowRank.Add(pass.Backend, x, inner.Weight, y);
            return;
        }

        inner.Forward(x, y, pass);
        _path.AddTo(_path.Dropped(x, pass), y, pass);
    }

    public void Dispose() => inner.Dispose();
}

/// <summary>The narrow way beside a layer.</summary>
internal sealed class LowRankPath(string path, LoraPair pair, float dropout)
{
    private readonly ulong _key = CounterRandom.Key(path);

    /// <summary>True if the pass drops inputs.</summary>
    public bool Drops(in Pass pass) => dropout > 0 && pass.DropoutKey != 0;

    /// <summary>x, or a copy of it without what this pass drops.</summary>
    public Tensor Dropped(Tensor x, in Pass pass)
    {
        if (!Drops(pass))
        {
            return x;
        }

        Tensor copy = pass.Rent(x.Shape);
        Ops.CopyColumns.Forward(pass.Backend, x, 0, copy);
        Ops.LowRank.Dropout(pass.Backend, copy, CounterRandom.Key(pass.DropoutKey, _key), dropout);
        return copy;
    }

    /// <summary>True if the way is one pair, without one that is subtracted.</summary>
    public bool CanWrite => pair.Start is null;

    /// <summary>y = s·B(A(x)).</summary>
    public void WriteTo(Tensor x, Tensor y, in Pass pass) => Ops.MatMul.Forward(pass.Backend, Narrow(x, pair.A, pair.Scale, pass), pair.B, null, y);

    /// <summary>y += s·B(A(x)), less what A and B were at the start if that is subtracted.</summary>
    public void AddTo(Tensor x, Tensor y, in Pass pass)
    {
        Add(x, pair.A, pair.B, pair.Scale, y, pass);
        if (pair.Start is { } start)
        {
            Add(x, start.A, start.B, -pair.Scale, y, pass);
        }
    }

    private static void Add(Tensor x, IPackedWeight a, IPackedWeight b, float scale, Tensor y, in Pass pass) =>
        Ops.LowRank.Add(pass.Backend, Narrow(x, a, scale, pass), b, y);

    private static Tensor Narrow(Tensor x, IPackedWeight a, float scale, in Pass pass)
    {
        Tensor narrow = pass.Rent(new Shape(x.Shape.Rows, a.Out));
        Ops.LowRank.Narrow(pass.Backend, x, a, scale, narrow);
        return narrow;
    }
}
