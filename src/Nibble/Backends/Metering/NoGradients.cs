using Nibble.Tensors;

namespace Nibble.Backends.Metering;

/// <summary>Backward kernels that do nothing.</summary>
internal sealed class NoGradients : IGradientKernels
{
    public Tensor? Values(IPackedWeight weight) => (weight as MeteredWeight)?.Values;

    public void ToRows(IPackedWeight weight, Tensor values, Tensor rows)
    {
    }

    public void FromRows(IPackedWeight weight, Tensor rows, Tensor values)
    {
    }

    public void MatMulInput(Tensor dy, IPackedWeight w, Tensor dx)
    {
    }

    public void MatMulWeight(Tensor dy, Tensor x, IPackedWeight w, Tensor dw)
    {
    }

    public void SumRows(Tensor dy, Tensor db)
    {
    }

    public void Gather(Tensor dy, Tensor ids, IPackedWeight table, Tensor dTable)
    {
    }

    public void LayerNorm(Tensor x, Tensor weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight, Tensor? dBias)
    {
    }

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight)
    {
    }

    public void Rope(Tensor d, Tensor positions, Tensor cos, Tensor sin)
    {
    }

    public void AppendToCache(Tensor dCache, int start, Tensor dx)
    {
    }

    public void CopyColumns(Tensor dy, nint first, Tensor dx)
    {
    }

    public void ScaleColumns(Tensor? x, Tensor factor, Tensor d, Tensor? dFactor)
    {
    }

    public void Attention(in AttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
    }

    public void Gelu(Tensor x, GeluKind kind, Tensor d)
    {
    }

    public void SwiGlu(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp)
    {
    }

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp)
    {
    }

    public void CrossEntropy(Tensor logits, Tensor targets, float scale, Tensor losses)
    {
    }

    public void AdamW(in AdamWArguments arguments)
    {
    }

    public void AdamW8Bit(in AdamW8BitArguments arguments)
    {
    }

    public void Round(IPackedWeight source, IPackedWeight target)
    {
    }

    public void Copy(Tensor source, Tensor target)
    {
    }

    public void Fill(Tensor x, float value)
    {
    }

    public double SumOfSquares(Tensor x) => 1;
}
