using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Training through a quantizer (QAT, BitNet b1.58). F32 master weights are trained; the model computes with their rounded values ŵ, and the gradient with
/// respect to ŵ is taken as that of the master (straight-through estimator, arXiv 1308.3432). Outside of training passes the layers run on the
/// packing of the very codes that will be saved, so what is measured is what is stored.
/// </summary>
internal sealed class QuantizedTraining : IDisposable
{
    private readonly CausalModel _model;
    private readonly QuantizedTrainingSettings _settings;
    private readonly List<QuantizedTrainingLinear> _layers = [];

    /// <summary>Puts itself around the planned layers of a model that was loaded for training.</summary>
    public QuantizedTraining(CausalModel model, ModelConfig config, QuantizedTrainingSettings settings)
    {
        (_model, _settings) = (model, settings);
        Request = new PlanRequest(settings.Weights);
        Dictionary<string, PlannedTensor> plan = QuantPlan.Create(config, Request).Quantized.ToDictionary(tensor => tensor.Spec.Path);
        foreach (Block block in model.Blocks)
        {
            block.Replace(linear => plan.TryGetValue(linear.Path, out PlannedTensor? planned) ? Around(linear, planned) : linear);
        }

        if (_layers.Count != plan.Count)
        {
            Throw.Failed($"{plan.Count} matrices are to be trained through the quantizer, the blocks have {_layers.Count} of them", $"planned are {string.Join(", ", plan.Keys)}");
        }
    }

    /// <summary>The plan by which the result is saved.</summary>
    public PlanRequest Request { get; }

    /// <summary>λ: the part of the rounding that passes have now.</summary>
    public float Share { get; private set; }

    /// <summary>True if activations are rounded to 8 bits.</summary>
    public bool RoundsActivations => _settings.Activations == ActivationType.Int8;

    /// <summary>Adds all parameters of the model, the planned matrices as F32 masters.</summary>
    public void AddTo(ParameterSet parameters)
    {
        Dictionary<IPackedWeight, QuantizedTrainingLinear> layers = _layers.ToDictionary(layer => layer.Weight);
        parameters.AddAll(_model, weight => layers.TryGetValue(weight, out QuantizedTrainingLinear? layer) ? layer.Adopt : null);
    }

    /// <summary>Brings λ and the rounded weights to what a step needs: a function of the step and the masters alone.</summary>
    public void Prepare(int step, int steps)
    {
        float share = (float)_settings.ShareAt(step, steps);
        foreach (QuantizedTrainingLinear layer in _layers)
        {
            layer.Publish(share);
        }

        Share = share;
    }

    /// <summary>Makes the packings that passes outside of training use, from the masters as they are.</summary>
    public void Refresh()
    {
        foreach (QuantizedTrainingLinear layer in _layers)
        {
            layer.Refresh(_settings.Activations);
        }
    }

    /// <summary>Writes the model with quantized matrices into an existing folder: codes of the masters, everything else as F32.</summary>
    public void Write(ModelConfig config, string sourceFolder, string output)
    {
        foreach (QuantizedTrainingLinear layer in _layers)
        {
            layer.Publish(0);
        }

        string masters = Path.Combine(output, "masters");
        Directory.CreateDirectory(masters);
        try
        {
            MergedModel.Write(_model, config, sourceFolder, null, DType.F32, masters);
            using HfFolder folder = HfFolder.Open(masters);
            QuantPlan plan = QuantPlan.Create(folder.Config, Request);
            using QuantizedFolderWriter writer = new(folder, plan, output) { Activations = _settings.Activations };
            foreach (PlannedTensor tensor in plan.Tensors)
            {
                Quantizer.WriteMatrix(writer, tensor);
            }

            writer.Finish();
        }
        finally
        {
            Directory.Delete(masters, recursive: true);
        }
    }

    public void Dispose() => _layers.ForEach(layer => layer.Release());

    private QuantizedTrainingLinear Around(ILinear inner, PlannedTensor planned)
    {
        QuantizedTrainingLinear layer = new(this, inner, planned, _model.Backend);
        _layers.Add(layer);
        return layer;
    }
}
