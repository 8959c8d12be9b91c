using System.Text.Json;
using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>Method × bits × layout: what a layout can hold comes back to the same logits, bit for bit; anything else is refused with the layouts that can.</summary>
public sealed class SaveLoadTableTests : IDisposable
{
    private readonly TempFolder _folder = new();

    private QuantizerOptions Calibrated => new() { Calibration = MethodTable.Calibration(_folder.Path), Force = true };

    /// <summary>Every method and width of the registry, for both kinds of model.</summary>
    public static TheoryData<string, int, string> Methods
    {
        get
        {
            TheoryData<string, int, string> data = [];
            foreach (IQuantizationMethod method in Registry.Methods)
            {
                foreach (int bits in method.SupportedBits)
                {
                    data.Add(method.Name, bits, "gpt2");
                    data.Add(method.Name, bits, "llama");
                }
            }

            return data;
        }
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Methods))]
    public void Saved_and_loaded_logits_are_equal_in_every_layout_that_can_hold_them(string method, int bits, string modelType)
    {
        string model = MethodTable.WriteModel(_folder["model"], modelType);
        ModelConfig config = ModelConfig.Open(model);
        foreach (QuantizationSettings settings in MethodTable.Variants(Registry.Method(method)).Where(settings => settings.Bits == bits))
        {
            float[]? expected = Registry.Method(method).NeedsCalibration ? null : LogitPairs.Of(model, new PlanRequest(settings));
            List<string> able = [];
            foreach (IQuantizationLayout layout in Registry.Layouts)
            {
                PlanRequest request = new(settings) { Layout = layout.Name };
                if (CanHold(config, settings, layout))
                {
                    able.Add(layout.Name);
                    float[] logits = SaveAndLoad(model, request);
                    expected ??= logits;
                    Assert.True(Same(expected, logits), $"{settings} in {layout.Name} does not come back");
                }
                else
                {
                    NibbleException error = Assert.Throws<NibbleException>(() => QuantPlan.Create(config, request));
                    Assert.Equal(ErrorKind.Usage, error.Kind);
                    Assert.Contains(layout.Name, error.Message, StringComparison.Ordinal);
                }
            }

            Assert.True(able.Count > 0, $"{settings}: no layout holds it");
        }
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void Quantizing_twice_gives_the_same_bytes_with_one_thread_and_with_two(string method, int bits, string modelType)
    {
        string model = MethodTable.WriteModel(_folder["model"], modelType);
        PlanRequest request = new(MethodTable.Variants(Registry.Method(method)).First(settings => settings.Bits == bits));
        string? before = Environment.GetEnvironmentVariable("NIBBLE_THREADS");
        try
        {
            List<byte[]> written = [];
            foreach (string threads in new[] { "1", "2" })
            {
                Environment.SetEnvironmentVariable("NIBBLE_THREADS", threads);
                Quantizer.Run(model, _folder["out"], request, Calibrated);
                written.Add([.. Directory.GetFiles(_folder["out"]).Order(StringComparer.Ordinal).SelectMany(File.ReadAllBytes)]);
            }

            Assert.Equal(written[0], written[1]);
        }
        finally
        {
            Environment.SetEnvironmentVariable("NIBBLE_THREADS", before);
        }
    }

    [Fact]
    public void Layouts_that_can_hold_what_was_refused_are_listed()
    {
        ModelConfig config = ModelConfig.Open(MethodTable.WriteModel(_folder["model"], "llama"));
        NibbleException error = Assert.Throws<NibbleException>(() => QuantPlan.Create(config, new PlanRequest(new QuantizationSettings { Method = "rtn", Bits = 3 }) { Layout = "awq" }));
        Assert.Contains("it holds 4 bits", error.Message, StringComparison.Ordinal);
        Assert.Contains("these layouts can: compressed-tensors", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_norm_that_was_changed_after_writing_is_found()
    {
        string output = _folder["awq"];
        Quantizer.Run(MethodTable.WriteModel(_folder["model"], "llama"), output, new PlanRequest(new QuantizationSettings { Method = "awq", Bits = 4, GroupSize = 8 }) { Layout = "compressed-tensors" }, Calibrated);
        QuantizationCheck.Run(output);
        const string Norm = "model.layers.0.input_layernorm.weight";
        string file = Path.Combine(output, "model.safetensors");
        byte[] bytes = File.ReadAllBytes(file);
        int header = (int)BitConverter.ToInt64(bytes);
        using (JsonDocument document = JsonDocument.Parse(bytes.AsMemory(8, header)))
        {
            bytes[8 + header + document.RootElement.GetProperty(Norm).GetProperty("data_offsets")[0].GetInt32()] ^= 1;
        }

        File.WriteAllBytes(file, bytes);
        NibbleException error = Assert.Throws<NibbleException>(() => QuantizationCheck.Run(output));
        Assert.Contains(Norm, error.Message, StringComparison.Ordinal);
    }

    private static bool CanHold(ModelConfig config, QuantizationSettings settings, IQuantizationLayout layout)
    {
        IQuantizationMethod method = Registry.Method(settings.Method);
        return Registry.Architecture(config).Linears(config).Where(spec => spec.Role == LinearRole.Block)
            .All(spec => layout.CanHold(method.FactsOf(settings, spec.Out, spec.In), out _));
    }

    private float[] SaveAndLoad(string model, PlanRequest request)
    {
        string output = _folder["out"];
        QuantizationResult result = Quantizer.Run(model, output, request, Calibrated);
        Assert.Equal(result.Report.Tensors.Count, QuantizationCheck.Run(output));
        // The plan, the record and the loaded model count bits alike.
        ModelConfig config = ModelConfig.Open(model);
        Assert.Equal(PlanEstimate.Of(QuantPlan.Create(config, request), config, DType.F32).BitsPerWeight, result.Report.BitsPerWeight, 1e-12);
        using LoadedModel loaded = LoadedModel.Load(output);
        Assert.Equal(result.Report.BitsPerWeight, WeightSizes.Of(loaded.Model).BitsPerWeight!.Value, 1e-12);
        return LogitPairs.Of(output);
    }

    private static bool Same(float[] one, float[] other) =>
        one.Length == other.Length && one.Zip(other, (a, b) => BitConverter.SingleToInt32Bits(a) == BitConverter.SingleToInt32Bits(b)).All(equal => equal);
}
