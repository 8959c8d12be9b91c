using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tests.Kernels;

/// <summary>The forward kernels of a mirror.</summary>
internal sealed class MirrorCheckKernels(IBackend device) : IKernels
{
    public void MatMul(Tensor x, IPackedWeight w, Tensor? bias, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.MatMul(call[x], w, call.Maybe(bias), call[y]);
    }

    public void Gather(IPackedWeight table, Tensor ids, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.Gather(table, call[ids], call[y]);
    }

    public void GatherSome(IPackedWeight table, Tensor ids, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.GatherSome(table, call[ids], call[y]);
    }

    public void LayerNorm(Tensor x, Tensor weight, Tensor? bias, float epsilon, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.LayerNorm(call[x], call[weight], call.Maybe(bias), epsilon, call[y]);
    }

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.RmsNorm(call[x], call.Maybe(weight), epsilon, call[y]);
    }

    public void Rope(Tensor x, Tensor positions, Tensor cos, Tensor sin)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.Rope(call[x], call[positions], call[cos], call[sin]);
    }

    public void AppendToCache(Tensor x, Tensor cache, int start)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.AppendToCache(call[x], call[cache], start);
    }

    public void Attention(in AttentionArguments arguments)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.Attention(Mirror(call, arguments));
    }

    internal static AttentionArguments Mirror(MirrorCheckCall call, in AttentionArguments a) =>
        a with { Query = call[a.Query], Keys = call[a.Keys], Values = call[a.Values], Output = call[a.Output], FirstKey = call.Maybe(a.FirstKey) };

    public void Gelu(Tensor x, GeluKind kind, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.Gelu(call[x], kind, call[y]);
    }

    public void SwiGlu(Tensor gate, Tensor up, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.SwiGlu(call[gate], call[up], call[y]);
    }

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.SquaredReluGate(call[gate], call[up], call[y]);
    }

    public void Add(Tensor x, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.Add(call[x], call[y]);
    }

    public void CopyColumns(Tensor x, nint first, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.CopyColumns(call[x], first, call[y]);
    }

    public void MatMulAdd(Tensor x, IPackedWeight w, Tensor y)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.MatMulAdd(call[x], w, call[y]);
    }

    public void AddGram(Tensor x, double[] sum)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.AddGram(call[x], sum);
    }

    public void Scale(Tensor x, float factor)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.Scale(call[x], factor);
    }

    public void ScaleColumns(Tensor x, Tensor factor, Tensor? shift)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.ScaleColumns(call[x], call[factor], call.Maybe(shift));
    }

    public void Dropout(Tensor x, ulong key, float probability)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.Dropout(call[x], key, probability);
    }

    public void RoundRows(Tensor x, float share)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.RoundRows(call[x], share);
    }

    public void Softmax(Tensor x)
    {
        using MirrorCheckCall call = new(device);
        device.Kernels.Softmax(call[x]);
    }

    public void LogLikelihood(
        Tensor hidden, IPackedWeight head, Tensor? bias, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace)
    {
        using MirrorCheckCall call = new(device);
        using Workspace own = new(device);
        device.Kernels.LogLikelihood(call[hidden], head, call.Maybe(bias), call[targets], call[logProbabilities], call.Maybe(best), own);
    }
}
