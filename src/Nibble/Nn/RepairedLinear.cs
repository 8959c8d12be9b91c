using Nibble.Backends;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Nn;

/// <summary>The low-rank term B·A that stands beside a quantized matrix and makes up for a part of its error; never trained.</summary>
/// <param name="a"><c>[rank, in]</c>, which the term then owns.</param>
/// <param name="b"><c>[out, rank]</c>, which the term then owns.</param>
internal sealed class RepairTerm(IPackedWeight a, IPackedWeight b) : IDisposable
{
    public IPackedWeight A => a;

    public IPackedWeight B => b;

    /// <summary>Bytes in the backend's memory.</summary>
    public long ByteLength => (long)a.ByteLength + b.ByteLength;

    /// <summary>Bits as a file stores them; packings may be padded.</summary>
    public double StoredBits => 8.0 * LowRankPair.BytesOf(a.In, b.Out, (int)a.Out);

    /// <summary>y += B(A(x)).</summary>
    public void AddTo(Tensor x, Tensor y, in Pass pass)
    {
        using Workspace.Scope scope = pass.Workspace.Begin();
        Tensor narrow = pass.Workspace.Rent(new Shape(x.Shape.Rows, a.Out));
        Ops.MatMul.Forward(pass.Backend, x, a, null, narrow);
        Ops.LowRank.Add(pass.Backend, narrow, b, y);
    }

    public void Dispose()
    {
        a.Dispose();
        b.Dispose();
    }
}

/// <summary>A quantized layer with its repair: y = base(x) + B(A(x)).</summary>
/// <param name="inner">The layer, which this one then owns.</param>
/// <param name="term">The repair; it belongs to the model.</param>
internal sealed class RepairedLinear(ILinear inner, RepairTerm term) : ILinear
{
    public ILinear Inner => inner;

    public RepairTerm Term => term;

    public string Path => inner.Path;

    public IPackedWeight Weight => inner.Weight;

    public Tensor? Bias => inner.Bias;

    public void Forward(Tensor x, Tensor y, in Pass pass)
    {
        inner.Forward(x, y, pass);
        term.AddTo(x, y, pass);
    }

    public void Dispose() => inner.Dispose();
}
