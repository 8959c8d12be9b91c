using Nibble.Tensors;

namespace Nibble.Backends.Metering;

/// <summary>Kernels that do nothing: results are of the right shape and have no content.</summary>
internal sealed class NoKernels : IKernels
{
    public void MatMul(Tensor x, IPackedWeight w, Tensor? bias, Tensor y)
    {
    }

    public void Gather(IPackedWeight table, Tensor ids, Tensor y)
    {
    }

    public void GatherSome(IPackedWeight table, Tensor ids, Tensor y)
    {
    }

    public void LayerNorm(Tensor x, Tensor weight, Tensor? bias, float epsilon, Tensor y)
    {
    }

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor y)
    {
    }

    public void Rope(Tensor x, Tensor positions, Tensor cos, Tensor sin)
    {
    }

    public void AppendToCache(Tensor x, Tensor cache, int start)
    {
    }

    public void Attention(in AttentionArguments arguments)
    {
    }

    public void RoundRows(Tensor x, float share)
    {
    }

    public void Gelu(Tensor x, GeluKind kind, Tensor y)
    {
    }

    public void SwiGlu(Tensor gate, Tensor up, Tensor y)
    {
    }

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor y)
    {
    }

    public void Add(Tensor x, Tensor y)
    {
    }

    public void CopyColumns(Tensor x, nint first, Tensor y)
    {
    }

    public void MatMulAdd(Tensor x, IPackedWeight w, Tensor y)
    {
    }

    public void AddGram(Tensor x, double[] sum)
    {
    }

    public void Scale(Tensor x, float factor)
    {
    }

    public void ScaleColumns(Tensor x, Tensor factor, Tensor? shift)
    {
    }

    public void Dropout(Tensor x, ulong key, float probability)
    {
    }

    public void Softmax(Tensor x)
    {
    }

    public void LogLikelihood(Tensor hidden, IPackedWeight head, Tensor? bias, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace)
    {
    }
}
