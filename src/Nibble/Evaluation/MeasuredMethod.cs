using System.Text.Json;
using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Evaluation;

/// <summary>Which method made the weights that are measured.</summary>
/// <param name="Name">The method; <c>none</c> for a dense model.</param>
/// <param name="Bits">Bits of a code; of a dense weight its dtype's.</param>
/// <param name="Settings">Its settings.</param>
public sealed record MeasuredMethod(string Name, double? Bits, IReadOnlyDictionary<string, object> Settings)
{
    // A ternary digit holds log2(3) bits; what is stored takes more, and bits_per_weight says how much.
    private const double TernaryBits = 1.58;

    /// <summary>Finds out from how the model was loaded, the record beside it, or the weights themselves.</summary>
    public static MeasuredMethod Of(LoadedModel model, LoadOptions load)
    {
        if (load.Quantization is { } request)
        {
            return Of(request, model.Config.StoredDType);
        }

        string record = Path.Combine(model.Path, QuantizationReport.FileName);
        return model.Config.QuantMethod is not null && File.Exists(record) ? FromRecord(record) : FromWeights(model);
    }

    /// <summary>The method of a request, with the settings that it leaves open.</summary>
    /// <param name="request">What was asked for.</param>
    /// <param name="stored">Dtype of the model's dense weights, on which some defaults depend.</param>
    public static MeasuredMethod Of(PlanRequest request, DType stored)
    {
        IQuantizationMethod method = Registry.Method(request.Settings.Method);
        QuantizationSettings settings = method.Complete(method.ForModel(request.Settings, stored));
        return new MeasuredMethod(settings.Method, BitsOf(settings.Method, settings.Bits), settings.ToDocument());
    }

    private static MeasuredMethod FromRecord(string path) => JsonText.Read(
        path,
        root =>
        {
            JsonElement report = root.GetProperty("report");
            string method = report.GetProperty("method").GetString()!;
            Dictionary<string, object> settings = report.GetProperty("settings").EnumerateObject().ToDictionary(item => item.Name, item => (object)item.Value.Clone());
            return new MeasuredMethod(method, BitsOf(method, report.GetProperty("bits").GetInt32()), settings);
        },
        "quantize the model again, or delete the file: the weights tell most of it");

    private static MeasuredMethod FromWeights(LoadedModel model)
    {
        IPackedWeight first = model.Model.Blocks[0].Linears.First().Weight;
        using QuantizedWeight? weight = first.Unpack();
        Dictionary<string, object> none = [];
        return weight?.Facts switch
        {
            null => new MeasuredMethod("none", first.Name.EndsWith("16", StringComparison.Ordinal) ? 16 : 32, none),
            { Kind: WeightKind.Ternary } => new MeasuredMethod("ternary", TernaryBits, none),
            { Kind: WeightKind.Codebook } facts => new MeasuredMethod(
                facts.Codebook ?? "codebook", facts.Bits, new Dictionary<string, object> { ["block_size"] = facts.GroupSize, ["double_quant"] = facts.Nested }),
            { OutlierThreshold: { } threshold } facts => new MeasuredMethod("int8", facts.Bits, new Dictionary<string, object> { ["threshold"] = threshold }),
            // Codes do not tell which algorithm chose them; the layout's name is all that is known.
            { } facts => new MeasuredMethod(
                model.Config.QuantMethod ?? "affine", facts.Bits, new Dictionary<string, object> { ["group_size"] = facts.GroupSize, ["symmetric"] = facts.Symmetric }),
        };
    }

    private static double? BitsOf(string method, int? bits) => method == "ternary" ? TernaryBits : bits;
}
