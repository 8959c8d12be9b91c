using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tests.Kernels;

/// <summary>The backward kernels of a mirror.</summary>
internal sealed class MirrorCheckGradients(IBackend device) : IGradientKernels
{
    public Tensor? Values(IPackedWeight weight) => device.Gradients.Values(weight);

    public void ToRows(IPackedWeight weight, Tensor values, Tensor rows)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.ToRows(weight, call[values], call[rows]);
    }

    public void FromRows(IPackedWeight weight, Tensor rows, Tensor values)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.FromRows(weight, call[rows], call[values]);
    }

    public void MatMulInput(Tensor dy, IPackedWeight w, Tensor dx)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.MatMulInput(call[dy], w, call[dx]);
    }

    public void MatMulWeight(Tensor dy, Tensor x, IPackedWeight w, Tensor dw)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.MatMulWeight(call[dy], call[x], w, call[dw]);
    }

    public void MatMulWeightInto(Tensor dy, Tensor x, IPackedWeight w, Tensor dw)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.MatMulWeightInto(call[dy], call[x], w, call[dw]);
    }

    public void SumRows(Tensor dy, Tensor db)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.SumRows(call[dy], call[db]);
    }

    public void Gather(Tensor dy, Tensor ids, IPackedWeight table, Tensor dTable)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.Gather(call[dy], call[ids], table, call[dTable]);
    }

    public void LayerNorm(Tensor x, Tensor weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight, Tensor? dBias)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.LayerNorm(call[x], call[weight], epsilon, call[dy], call[dx], call.Maybe(dWeight), call.Maybe(dBias));
    }

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.RmsNorm(call[x], call.Maybe(weight), epsilon, call[dy], call[dx], call.Maybe(dWeight));
    }

    public void Rope(Tensor d, Tensor positions, Tensor cos, Tensor sin)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.Rope(call[d], call[positions], call[cos], call[sin]);
    }

    public void AppendToCache(Tensor dCache, int start, Tensor dx)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.AppendToCache(call[dCache], start, call[dx]);
    }

    public void CopyColumns(Tensor dy, nint first, Tensor dx)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.CopyColumns(call[dy], first, call[dx]);
    }

    public void ScaleColumns(Tensor? x, Tensor factor, Tensor d, Tensor? dFactor)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.ScaleColumns(call.Maybe(x), call[factor], call[d], call.Maybe(dFactor));
    }

    public void Attention(in AttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.Attention(MirrorCheckKernels.Mirror(call, forward), call[dOutput], call[dQuery], call[dKeys], call[dValues]);
    }

    public void Gelu(Tensor x, GeluKind kind, Tensor d)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.Gelu(call[x], kind, call[d]);
    }

    public void SwiGlu(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.SwiGlu(call[gate], call[up], call[dy], call[dGate], call[dUp]);
    }

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.SquaredReluGate(call[gate], call[up], call[dy], call[dGate], call[dUp]);
    }

    public void CrossEntropy(Tensor logits, Tensor targets, float scale, Tensor losses)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.CrossEntropy(call[logits], call[targets], scale, call[losses]);
    }

    public void AdamW(in AdamWArguments arguments)
    {
        using MirrorCheckCall call = new(device);
        AdamWArguments a = arguments;
        device.Gradients.AdamW(a with { Values = call[a.Values], Gradient = call[a.Gradient], First = call[a.First], Second = call[a.Second] });
    }

    public bool TryMuon(ReadOnlySpan<MuonArguments> all)
    {
        using MirrorCheckCall call = new(device);
        MuonArguments[] copies = [.. all];
        return device.Gradients.TryMuon([.. copies.Select(a => a with { Values = call[a.Values], Gradient = call[a.Gradient], Velocity = call[a.Velocity] })]);
    }

    public void AdamW8Bit(in AdamW8BitArguments arguments)
    {
        using MirrorCheckCall call = new(device);
        AdamW8BitArguments a = arguments;
        device.Gradients.AdamW8Bit(a with
        {
            Values = call[a.Values], Gradient = call[a.Gradient], First = call[a.First], FirstScales = call[a.FirstScales], Second = call[a.Second],
            SecondScales = call[a.SecondScales],
        });
    }

    public void Round(IPackedWeight source, IPackedWeight target) => device.Gradients.Round(source, target);

    public void Copy(Tensor source, Tensor target)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.Copy(call[source], call[target]);
    }

    public void Fill(Tensor x, float value)
    {
        using MirrorCheckCall call = new(device);
        device.Gradients.Fill(call[x], value);
    }

    public double SumOfSquares(Tensor x)
    {
        using MirrorCheckCall call = new(device);
        return device.Gradients.SumOfSquares(call[x]);
    }
}
