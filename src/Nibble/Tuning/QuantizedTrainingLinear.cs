using Nibble.Backends;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>A layer of <see cref="QuantizedTraining"/>.</summary>
/// <param name="training">What it belongs to.</param>
/// <param name="inner">The dense F32 layer whose matrix holds the rounded values; this layer then owns it.</param>
/// <param name="planned">How its matrix is quantized.</param>
/// <param name="backend">Where it lives.</param>
internal sealed class QuantizedTrainingLinear(QuantizedTraining training, ILinear inner, PlannedTensor planned, IBackend backend) : ILinear
{
    private IPackedWeight? _master, _codes;
    private float _published = float.NaN;

    public string Path => inner.Path;

    public IPackedWeight Weight => inner.Weight;

    public Tensor? Bias => inner.Bias;

    /// <summary>Takes the F32 copy that is trained, and gives what must be called when it has changed.</summary>
    public Action Adopt(IPackedWeight master)
    {
        _master = master;
        return () => _published = float.NaN;
    }

    public void Forward(Tensor x, Tensor y, in Pass pass)
    {
        if (!pass.Training)
        {
            Ops.MatMul.Forward(pass.Backend, x, _codes ?? inner.Weight, inner.Bias, y);
            return;
        }

        if (!training.RoundsActivations)
        {
            inner.Forward(x, y, pass);
            return;
        }

        // Other layers may read x as well.
        using Workspace.Scope scope = pass.Workspace.Begin();
        Tensor copy = pass.Workspace.Rent(x.Shape);
        Ops.CopyColumns.Forward(pass.Backend, x, 0, copy);
        Ops.RoundRows.Forward(pass.Backend, copy, training.Share);
        inner.Forward(copy, y, pass);
    }

    /// <summary>The layer's matrix becomes w + share·(ŵ − w), unless it is that already.</summary>
    public void Publish(float share)
    {
        Release();
        if (share == _published)
        {
            return;
        }

        if (backend.Quantizer is { } device && device.TryRound(planned.Spec.WeightName, _master!, planned.Settings!, share, inner.Weight))
        {
            _published = share;
            return;
        }

        using Tensor values = ParameterRows.Dense(backend, _master!);
        if (share > 0)
        {
            using QuantizedWeight weight = Quantize(values);
            using Tensor rounded = weight.Dequantize();
            Blend(values.HostSpan<float>(), rounded.HostSpan<float>(), share);
        }

        using Tensor rows = values.Upload(backend);
        backend.Gradients.FromRows(inner.Weight, rows, backend.Gradients.Values(inner.Weight)!);
        _published = share;
    }

    /// <summary>Packs the codes of the master as it is.</summary>
    public void Refresh(ActivationType activations)
    {
        Release();
        using Tensor values = ParameterRows.Dense(backend, _master!);
        using QuantizedWeight weight = Quantize(values);
        _codes = backend.Prepare(weight, activations);
    }

    /// <summary>Frees the packing of codes.</summary>
    public void Release()
    {
        _codes?.Dispose();
        _codes = null;
    }

    public void Dispose()
    {
        Release();
        inner.Dispose();
    }

    private static void Blend(Span<float> values, ReadOnlySpan<float> rounded, float share)
    {
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = share == 1 ? rounded[i] : values[i] + (share * (rounded[i] - values[i]));
        }
    }

    private QuantizedWeight Quantize(Tensor values) => Registry.Method(planned.Settings!.Method).Quantize(planned.Spec.WeightName, values, planned.Settings);
}
