using System.Text;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Quantization;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>One quantized module in a folder of its own.</summary>
internal static class LayoutFolder
{
    private const string Module = "model.layers.0.mlp.up_proj";

    /// <summary>Writes a weight, changes the section, and reads the weight back.</summary>
    public static void RoundTrip(IQuantizationLayout layout, QuantizedWeight weight, Action<QuantizedWeight> check, Action<JsonObject>? change = null)
    {
        using TempFolder folder = new();
        List<(string Name, Tensor Tensor)> tensors = [.. layout.Encode(weight, DType.F32).Select(item => (Module + item.Suffix, item.Tensor))];
        string[] declared = [.. layout.Declare(weight.Facts, DType.F32).Select(item => $"{Module}{item.Suffix} {item.Of(Module).ByteLength}")];
        Assert.Equal(declared, tensors.Select(item => $"{item.Name} {item.Tensor.ByteLength}"));
        Safetensors.Save(folder["model.safetensors"], tensors);
        tensors.ForEach(item => item.Tensor.Dispose());
        QuantizationSettings settings = new() { Method = "test" };
        JsonObject section = layout.Section(new LayoutModules([(Module, settings, weight.Facts)], ["lm_head"], DType.F32, OnlyLinear: true));
        change?.Invoke(section);
        File.WriteAllText(folder["config.json"], new JsonObject { ["model_type"] = "llama", ["quantization_config"] = section }.ToJsonString());
        using HfFolder model = HfFolder.Open(folder.Path);
        Assert.Equal(change is null ? layout : Registry.Layout(model.Config), Registry.Layout(model.Config));
        LayoutReader reader = new(model, model.Config.Quantization!, Module);
        WeightFacts facts = layout.Inspect(reader, weight.Out, weight.In);
        reader.Check(layout.Declare(facts, DType.F32));
        using QuantizedWeight back = layout.Decode(reader, facts);
        check(back);
    }

    /// <summary>The bytes of a tensor.</summary>
    public static unsafe string Hex(Tensor tensor) => Convert.ToHexString(new Span<byte>(tensor.HostPointer, (int)tensor.ByteLength));

    /// <summary>The stored bytes of one tensor of a weight.</summary>
    public static string Hex(string layout, QuantizedWeight weight, string suffix) => Read(layout, weight, suffix, Convert.ToHexString);

    /// <summary>The same as text.</summary>
    public static string Text(string layout, QuantizedWeight weight, string suffix) => Read(layout, weight, suffix, bytes => Encoding.UTF8.GetString(bytes));

    /// <summary>The same storage under another shape, as owner.</summary>
    public static Tensor Owned(this Tensor tensor, Shape shape) => new(shape, tensor.DType, tensor.Storage);

    private static unsafe string Read(string layout, QuantizedWeight weight, string suffix, Func<byte[], string> text)
    {
        foreach (EncodedTensor item in Registry.Layout(layout).Encode(weight, DType.BF16))
        {
            using Tensor tensor = item.Tensor;
            if (item.Suffix == suffix)
            {
                return text(new Span<byte>(tensor.HostPointer, (int)tensor.ByteLength).ToArray());
            }
        }

        throw new InvalidOperationException($"{layout} has no {suffix}");
    }
}
