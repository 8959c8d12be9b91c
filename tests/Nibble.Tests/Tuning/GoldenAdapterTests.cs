using System.Text.Json;
using Nibble.Backends.Cpu;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tests.Models;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>Adapters that PEFT wrote, with the logits that PEFT computed.</summary>
public class GoldenAdapterTests
{
    private const double Tolerance = 2e-5;

    public static TheoryData<string> Supported => [.. Folders.Where(name => name.EndsWith("-lora", StringComparison.Ordinal) || name.EndsWith("-rslora", StringComparison.Ordinal))];

    private static string Root => Path.Combine(TestData.Goldens, "adapters");

    private static IEnumerable<string> Folders => Directory.EnumerateDirectories(Root).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal);

    [Theory]
    [MemberData(nameof(Supported))]
    public void AdaptersOfPeftGiveItsLogits(string name)
    {
        using Adapted adapted = new(name);
        foreach (GoldenRun run in adapted.Runs)
        {
            Assert.True(Error(adapted.Model, run) < Tolerance, $"{run.Name}: {Error(adapted.Model, run)}");
        }
    }

    [Theory]
    [MemberData(nameof(Supported))]
    public void AMergedModelGivesTheSameLogits(string name)
    {
        using Adapted adapted = new(name);
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        using TempFolder output = new();
        using (HfFolder folder = HfFolder.Open(adapted.Base))
        using (DenseWeightSource weights = new(folder, Registry.Architecture(folder.Config)))
        using (CausalModel plain = ModelBuilder.Build(folder.Config, weights, backend))
        {
            MergedModel.Write(plain, folder.Config, adapted.Base, adapted.Adapter, DType.F32, output.Path);
        }

        using HfFolder merged = HfFolder.Open(output.Path);
        using DenseWeightSource source = new(merged, Registry.Architecture(merged.Config));
        using CausalModel model = ModelBuilder.Build(merged.Config, source, backend);
        Assert.All(adapted.Runs, run => Assert.True(Error(model, run) < Tolerance));
    }

    [Theory]
    [MemberData(nameof(Supported))]
    public void AnAdapterSavedAgainIsTheSame(string name)
    {
        using Adapted adapted = new(name);
        using TempFolder output = new();
        adapted.Adapter.Save(output.Path);
        using SafetensorsFile before = SafetensorsFile.Open(Path.Combine(Root, name, PeftConfig.WeightsName)), after = SafetensorsFile.Open(output[PeftConfig.WeightsName]);
        Assert.Equal(before.Entries.Keys.Order(), after.Entries.Keys.Order());
        Assert.All(before.Entries.Keys, key => Assert.Equal(before.Load(key).HostSpan<float>().ToArray(), after.Load(key).HostSpan<float>().ToArray()));
        JsonConfig saved = PeftConfig.Open(output.Path), original = PeftConfig.Open(Path.Combine(Root, name));
        foreach (string key in new[] { "peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "bias", "task_type" })
        {
            Assert.Equal(original.Element.GetProperty(key).GetRawText().Replace(".0", string.Empty), saved.Element.GetProperty(key).GetRawText().Replace(".0", string.Empty));
        }
    }

    [Fact]
    public void AnAdapterOfAnotherBaseIsRefusedWithAllTensors()
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        ModelConfig config = ModelConfig.Open(Path.Combine(TestData.Goldens, "models", "llama-gqa-llama3-tied"));
        NibbleException error = Assert.Throws<NibbleException>(() => Adapters.Load(Path.Combine(Root, "llama-lora"), config, backend));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("layers.0.self_attn.v_proj.lora_B", error.Message, StringComparison.Ordinal);
        Assert.Contains("layers.1.self_attn.v_proj.lora_B", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("llama-dora", "llama", "use_dora")]
    [InlineData("gpt2-dora", "gpt2", "use_dora")]
    [InlineData("gpt2-classification-lora-score", "gpt2-classification", "modules_to_save")]
    [InlineData("llama-prefix", "llama", "peft_type")]
    [InlineData("gpt2-ia3", "gpt2", "peft_type")]
    public void AdaptersThatArePlainLoraOnlyInPartAreRefusedByName(string adapter, string model, string key)
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        ModelConfig config = ModelConfig.Open(Path.Combine(TestData.Goldens, "models", model));
        NibbleException error = Assert.Throws<NibbleException>(() => Adapters.Load(Path.Combine(Root, adapter), config, backend));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains(key, error.Message, StringComparison.Ordinal);
    }

    private static double Error(CausalModel model, GoldenRun run)
    {
        float[][][] actual = ModelRun.Batched(model, run.Rows, left: false);
        float[][][] expected = [.. run.Logits.EnumerateArray().Select(row => row.EnumerateArray().Select(GoldenRun.Floats).ToArray())];
        return ModelRun.Error(actual.SelectMany(row => row), expected.SelectMany(row => row));
    }

    private sealed class Adapted : IDisposable
    {
        private readonly CpuBackend _backend = new(new CpuOptions(Threads: 1));
        private readonly IWeightSource _weights;

        public Adapted(string name)
        {
            string folder = Path.Combine(Root, name);
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "golden.json")));
            Base = Path.Combine(TestData.Goldens, "models", document.RootElement.GetProperty("base").GetString()!);
            HfFolder opened = HfFolder.Open(Base);
            _weights = new DenseWeightSource(opened, Registry.Architecture(opened.Config));
            Model = ModelBuilder.Build(opened.Config, _weights, _backend);
            Adapter = Adapters.Load(folder, opened.Config, _backend);
            Adapter.Attach(Model);
            Runs = [.. document.RootElement.GetProperty("runs").EnumerateArray().Select(run => new GoldenRun(run))];
        }

        public string Base { get; }

        public CausalModel Model { get; }

        public IAdapter Adapter { get; }

        public GoldenRun[] Runs { get; }

        public void Dispose()
        {
            Model.Dispose();
            Adapter.Dispose();
            _weights.Dispose();
        }
    }
}
