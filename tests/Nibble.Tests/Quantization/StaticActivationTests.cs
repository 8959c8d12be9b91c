using System.Text.Json;
using System.Text.Json.Nodes;
using Nibble.Backends.Cpu;
using Nibble.Backends.Metering;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Tests.Quantization;

/// <summary>optimum-quanto's 8-bit activations: scales as its calibration finds them, stored as it stores them, rounded as it rounds.</summary>
public sealed class StaticActivationTests : IDisposable
{
    private static readonly JsonElement Golden = GoldenWeights.Read("quanto/activations.json");
    private static readonly QuantizationSettings Settings = new() { Method = "quanto", Bits = 8, ActivationBits = 8 };
    private static readonly QuantizerOptions Calibrated = new() { Calibration = new CalibrationRequest("demo") { Samples = 3, Length = 64 }, Force = true };

    private readonly TempFolder _folder = new();

    public static TheoryData<int> Cases => [.. Enumerable.Range(0, Golden.GetProperty("cases").GetArrayLength())];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Cases))]
    public void Scales_are_those_of_the_original(int index)
    {
        JsonElement item = Golden.GetProperty("cases")[index];
        using HfFolder folder = HfFolder.Open(Path.Combine(TestData.Goldens, "models", "llama"));
        IArchitecture architecture = Registry.Architecture(folder.Config);
        using CpuBackend backend = new();
        using DenseWeightSource source = new(folder, architecture);
        using CausalModel model = ModelBuilder.Build(folder.Config, source, backend);
        QuantPlan plan = QuantPlan.Create(folder.Config, new PlanRequest(Settings with { Bits = item.GetProperty("bits").GetInt32() }));
        int[][] samples = [.. Golden.GetProperty("samples").EnumerateArray().Select(sample => sample.EnumerateArray().Select(id => id.GetInt32()).ToArray())];
        IReadOnlyDictionary<string, StaticActivations> scales = new ActivationCalibration(plan, spec =>
        {
            using Tensor stored = source.Matrix(spec);
            return stored.To(DType.F32);
        })
        { Streamline = item.GetProperty("streamline").GetBoolean() }.Measure(model, samples);
        Assert.Equal(14, scales.Count);
        foreach (JsonProperty layer in item.GetProperty("scales").EnumerateObject())
        {
            // A code on the border between two may turn with the order of sums, and moves what comes behind it a little.
            Assert.Equal(layer.Value[0].GetSingle(), scales[layer.Name].Input, 2e-3f * layer.Value[0].GetSingle());
            Assert.Equal(layer.Value[1].GetSingle(), scales[layer.Name].Output, 2e-3f * layer.Value[1].GetSingle());
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_loaded_folder_rounds_inputs_and_outputs(int index)
    {
        JsonElement item = Golden.GetProperty("cases")[index];
        string output = _folder["out"];
        using (HfFolder source = HfFolder.Open(Path.Combine(TestData.Goldens, "models", "llama")))
        {
            QuantPlan plan = QuantPlan.Create(source.Config, new PlanRequest(Settings with { Bits = item.GetProperty("bits").GetInt32() }));
            Directory.CreateDirectory(output);
            using QuantizedFolderWriter writer = new(source, plan, output);
            Dictionary<string, StaticActivations> scales = item.GetProperty("scales").EnumerateObject().ToDictionary(layer => layer.Name, layer => new StaticActivations(layer.Value[0].GetSingle(), layer.Value[1].GetSingle()));
            foreach (PlannedTensor tensor in plan.Tensors)
            {
                Quantizer.WriteMatrix(writer, tensor, scales);
            }

            writer.Finish();
        }

        using HfFolder folder = HfFolder.Open(output);
        using CpuBackend backend = new();
        using QuantizedWeightSource weights = new(folder, Registry.Architecture(folder.Config));
        using CausalModel model = ModelBuilder.Build(folder.Config, weights, backend);
        Assert.True(model.HasInt8Activations);
        float[] expected = [.. item.GetProperty("logits").EnumerateArray().Select(value => value.GetSingle())];
        float[] logits = LogitPairs.Of(model, [.. Golden.GetProperty("prompt").EnumerateArray().Select(id => id.GetInt32())])[^expected.Length..];
        float range = expected.Max() - expected.Min();
        Assert.All(expected.Zip(logits), pair => Assert.Equal(pair.First, pair.Second, 0.01f * range));

        // An adapter around the layers does not hide that they round.
        using LoraAdapter adapter = LoraAdapter.Create(model, Registry.Architecture(folder.Config).Linears(folder.Config), new LoraSettings { TargetModules = [TargetModules.AllLinear] }, 1);
        adapter.Attach(model);
        Assert.True(model.HasInt8Activations);

        // Other backends have no kernel for it, which is told while the model is built.
        using MeteredBackend other = new(panelWidth: 8);
        NibbleException error = Assert.Throws<NibbleException>(() => ModelBuilder.Build(folder.Config, weights, other));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("rounded activations run on the processor only", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("llama")]
    [InlineData("gpt2")]
    public void One_block_in_memory_gives_the_scales_of_the_whole_model(string modelType)
    {
        string model = MethodTable.WriteModel(_folder["model"], modelType), output = _folder["out"];
        PlanRequest request = new(Settings) { Overrides = [PlanOverride.Parse(modelType == "llama" ? "*.0.self_attn.o_proj=none" : "*.0.attn.c_proj=none")] };
        Quantizer.Run(model, output, request, Calibrated);
        using LoadedModel whole = LoadedModel.Load(model);
        using HfFolder source = HfFolder.Open(model), written = HfFolder.Open(output);
        IArchitecture architecture = Registry.Architecture(source.Config);
        using DenseWeightSource dense = new(source, architecture);
        IReadOnlyDictionary<string, StaticActivations> expected = new ActivationCalibration(QuantPlan.Create(source.Config, request), spec =>
        {
            using Tensor stored = dense.Matrix(spec);
            return stored.To(DType.F32);
        }).Measure(whole.Model, Calibrated.Calibration!.Choose(whole));
        using QuantizedWeightSource quantized = new(written, architecture);
        LinearSpec[] rounded = [.. architecture.Linears(source.Config).Where(spec => ((IWeightSource)quantized).Activations(spec) is not null)];
        Assert.Equal(expected.Keys.Order(), rounded.Select(spec => spec.Path).Order());
        Assert.All(rounded, spec => Assert.Equal(expected[spec.Path], ((IWeightSource)quantized).Activations(spec)));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Interrupted_work_goes_on_and_damaged_states_do_not_count(bool damaged)
    {
        string model = MethodTable.WriteModel(_folder["model"], "llama", blocks: 3), output = _folder["out"], expected = _folder["expected"], journal = _folder[".out.nibble-resume"];
        Quantizer.Run(model, expected, new PlanRequest(Settings), Calibrated);
        using CancellationTokenSource stop = new();
        Assert.Throws<WorkInterruptedException>(() => Quantizer.Run(
            model, output, new PlanRequest(Settings), Calibrated, step => StopAt(step.Path, stop), stop.Token));
        Assert.False(Directory.Exists(output));
        string states = Assert.Single(Directory.GetFiles(journal, "states-*"));
        Assert.Equal(2, Directory.GetFiles(journal, "block-*").Length);
        if (damaged)
        {
            byte[] bytes = File.ReadAllBytes(states);
            bytes[100] ^= 1;
            File.WriteAllBytes(states, bytes);
        }

        List<string> notes = [];
        Quantizer.Run(model, output, new PlanRequest(Settings), Calibrated with { Note = notes.Add });
        Assert.Contains(notes, note => note.Contains("2 of 3 blocks are finished", StringComparison.Ordinal));
        Assert.All(Directory.GetFiles(expected), file => Assert.Equal(File.ReadAllBytes(file), File.ReadAllBytes(Path.Combine(output, Path.GetFileName(file)))));
        Assert.False(Directory.Exists(journal));
    }

    private static void StopAt(string path, CancellationTokenSource stop)
    {
        if (path.Contains(".1.", StringComparison.Ordinal))
        {
            stop.Cancel();
        }
    }

    [Theory]
    [InlineData("llama", 8)]
    [InlineData("llama", 4)]
    [InlineData("gpt2", 2)]
    public void Saved_scales_come_back_and_the_work_is_the_same_with_one_thread_and_two(string modelType, int bits)
    {
        string model = MethodTable.WriteModel(_folder["model"], modelType), output = _folder["out"];
        PlanRequest request = new(Settings with { Bits = bits });
        List<byte[]> written = [];
        string? before = Environment.GetEnvironmentVariable("NIBBLE_THREADS");
        try
        {
            foreach (string threads in new[] { "1", "2" })
            {
                Environment.SetEnvironmentVariable("NIBBLE_THREADS", threads);
                QuantizationResult result = Quantizer.Run(model, output, request, Calibrated);
                Assert.Equal(3 * 64, result.Report.Calibration!.Coverage[0].Tokens);
                Assert.Equal(result.Report.Tensors.Count, QuantizationCheck.Run(output));
                written.Add([.. Directory.GetFiles(output).Order(StringComparer.Ordinal).SelectMany(File.ReadAllBytes)]);
            }
        }
        finally
        {
            Environment.SetEnvironmentVariable("NIBBLE_THREADS", before);
        }

        Assert.Equal(written[0], written[1]);
        Assert.Equal("int8", JsonNode.Parse(File.ReadAllText(Path.Combine(output, "config.json")))!["quantization_config"]!["activations"]!.GetValue<string>());
        Assert.All(JsonNode.Parse(File.ReadAllText(Path.Combine(output, "quanto_qmap.json")))!.AsObject(), module => Assert.Equal("qint8", module.Value!["activations"]!.GetValue<string>()));
        using HfFolder folder = HfFolder.Open(output);
        IArchitecture architecture = Registry.Architecture(folder.Config);
        using QuantizedWeightSource source = new(folder, architecture);
        foreach (LinearSpec spec in architecture.Linears(folder.Config).Where(source.IsQuantized))
        {
            StaticActivations scales = ((IWeightSource)source).Activations(spec)!;
            Assert.True(scales is { Input: > 0 and < 1, Output: > 0 and < 1 }, $"{spec.Path}: {scales}");
        }

        // The rounding is there: without the section's word for it, the same weights give other logits.
        float[] rounded = LogitPairs.Of(output);
        string config = Path.Combine(output, "config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("\"activations\":\"int8\"", "\"activations\":null", StringComparison.Ordinal).Replace("\"activations\": \"int8\"", "\"activations\": null", StringComparison.Ordinal));
        float[] plain = LogitPairs.Of(output);
        Assert.NotEqual(plain, rounded);
        float largest = plain.Max(MathF.Abs);
        Assert.All(plain.Zip(rounded), pair => Assert.Equal(pair.First, pair.Second, 0.1f * largest));
    }

    [Theory]
    [InlineData("rtn", 8)]
    [InlineData("int8", 8)]
    [InlineData("quanto", 4)]
    [InlineData("quanto", 0)]
    public void Other_methods_and_widths_are_refused(string method, int width) =>
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => Registry.Method(method).Complete(new() { Method = method, ActivationBits = width })).Kind);

    [Fact]
    public void Other_layouts_heads_mixtures_and_missing_texts_are_refused()
    {
        string model = MethodTable.WriteModel(_folder["model"], "llama");
        ModelConfig config = ModelConfig.Open(model);
        foreach (string layout in new[] { "compressed-tensors", "gptq", "hqq", "awq" })
        {
            Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => QuantPlan.Create(config, new PlanRequest(Settings) { Layout = layout })).Kind);
        }

        NibbleException mixed = Assert.Throws<NibbleException>(() => QuantPlan.Create(config, new PlanRequest(Settings) { Overrides = [PlanOverride.Parse("*.down_proj=quanto:bits=8")] }));
        Assert.Contains("in all layers or in none", mixed.Message, StringComparison.Ordinal);
        Assert.Contains("--activation-bits and --repair-rank", Assert.Throws<NibbleException>(() => QuantPlan.Create(config, new PlanRequest(Settings with { RepairRank = 4 }))).Message, StringComparison.Ordinal);
        Assert.Contains("--data", Assert.Throws<NibbleException>(() => Quantizer.Run(model, _folder["out"], new PlanRequest(Settings))).Message, StringComparison.Ordinal);
        Assert.Contains("--data", Assert.Throws<NibbleException>(() => LogitPairs.Of(model, new PlanRequest(Settings))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(".input_scale", 0f)]
    [InlineData(".input_scale", -1f)]
    [InlineData(".output_scale", float.NaN)]
    [InlineData(".output_scale", float.PositiveInfinity)]
    public void Scales_that_make_no_sense_are_refused(string suffix, float value)
    {
        string output = _folder["out"];
        Quantizer.Run(MethodTable.WriteModel(_folder["model"], "llama"), output, new PlanRequest(Settings), Calibrated);
        string file = Path.Combine(output, "model.safetensors");
        byte[] bytes = File.ReadAllBytes(file);
        int header = (int)BitConverter.ToInt64(bytes);
        using (JsonDocument document = JsonDocument.Parse(bytes.AsMemory(8, header)))
        {
            int at = document.RootElement.GetProperty("model.layers.0.mlp.up_proj" + suffix).GetProperty("data_offsets")[0].GetInt32();
            BitConverter.TryWriteBytes(bytes.AsSpan(8 + header + at), value);
        }

        File.WriteAllBytes(file, bytes);
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => LogitPairs.Of(output)).Kind);
    }

    [Fact]
    public void The_map_alone_tells_that_activations_are_rounded()
    {
        string output = _folder["out"];
        Quantizer.Run(MethodTable.WriteModel(_folder["model"], "llama"), output, new PlanRequest(Settings), Calibrated);
        float[] expected = LogitPairs.Of(output);
        string config = Path.Combine(output, "config.json"), map = Path.Combine(output, "quanto_qmap.json");
        JsonObject json = JsonNode.Parse(File.ReadAllText(config))!.AsObject();
        json.Remove("quantization_config");
        File.WriteAllText(config, json.ToJsonString());
        Assert.Equal(expected, LogitPairs.Of(output));
        JsonObject modules = JsonNode.Parse(File.ReadAllText(map))!.AsObject();
        modules["model.layers.0.mlp.up_proj"]!["activations"] = "none";
        File.WriteAllText(map, modules.ToJsonString());
        Assert.Contains("differ in their activations", Assert.Throws<NibbleException>(() => LogitPairs.Of(output)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Rounding_takes_the_nearest_code_halves_to_even_and_clamps()
    {
        float[] values = [0.25f, 0.75f, -0.25f, 63.4f, 100, -64, -100, 0.5f, 1, -1.25f], rounded = new float[10];
        StaticActivations.Round(values, 0.5f, rounded);
        Assert.Equal([0f, 1f, 0f, 63.5f, 63.5f, -64f, -64f, 0.5f, 1f, -1f], rounded);
    }

    [Fact]
    public void A_rounded_base_cannot_be_trained_and_a_conversion_says_what_it_leaves_out()
    {
        string output = _folder["out"];
        Quantizer.Run(MethodTable.WriteModel(_folder["model"], "llama"), output, new PlanRequest(Settings), Calibrated);
        Assert.Contains("no gradient", Assert.Throws<NibbleException>(() => LoadedModel.Load(output, new LoadOptions { Trainable = true }).Dispose()).Message, StringComparison.Ordinal);
        Assert.Contains(ModelConverter.Convert(output, _folder["dense"]).Notes, note => note.Contains("rounded to 8 bits", StringComparison.Ordinal));
    }
}
