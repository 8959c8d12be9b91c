using System.Text.Json;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cuda;
using Nibble.Formats;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tests.Cuda;
using Nibble.Tests.Models;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>Adapters that PEFT wrote, with the logits that PEFT computed.</summary>
public class GoldenAdapterTests
{
    private const double Tolerance = 2e-5;

    public static TheoryData<string> All => [.. Folders];

    public static TheoryData<string> Mergeable => [.. Folders.Where(name => !name.EndsWith("-prefix", StringComparison.Ordinal) && !name.EndsWith("-prompt", StringComparison.Ordinal))];

    private static string Root => Path.Combine(TestData.Goldens, "adapters");

    private static IEnumerable<string> Folders => Directory.EnumerateDirectories(Root).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal);

    [Theory]
    [MemberData(nameof(All))]
    public void AdaptersOfPeftGiveItsLogits(string name)
    {
        using Adapted adapted = new(name);
        foreach (GoldenRun run in adapted.Runs)
        {
            Assert.True(Error(adapted.Model, run) < Tolerance, $"{run.Name}: {Error(adapted.Model, run)}");
        }
    }

    [Theory]
    [MemberData(nameof(Mergeable))]
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
    [MemberData(nameof(All))]
    public void AnAdapterSavedAgainIsTheSame(string name)
    {
        using Adapted adapted = new(name);
        using TempFolder output = new();
        adapted.Adapter.Save(output.Path);
        using SafetensorsFile before = SafetensorsFile.Open(Path.Combine(Root, name, PeftConfig.WeightsName)), after = SafetensorsFile.Open(output[PeftConfig.WeightsName]);
        Assert.Equal(before.Entries.Keys.Order(), after.Entries.Keys.Order());
        Assert.All(before.Entries.Keys, key => Assert.Equal(before.Load(key).HostSpan<float>().ToArray(), after.Load(key).HostSpan<float>().ToArray()));
        JsonConfig saved = PeftConfig.Open(output.Path), original = PeftConfig.Open(Path.Combine(Root, name));
        string[] free = ["target_modules", "feedforward_modules", "modules_to_save", "exclude_modules"];
        foreach (JsonProperty property in saved.Element.EnumerateObject().Where(property => !free.Contains(property.Name)))
        {
            Assert.Equal(original.Element.GetProperty(property.Name).GetRawText().Replace(".0", string.Empty), property.Value.GetRawText().Replace(".0", string.Empty));
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
    [InlineData("llama-lora", "gpt2")]
    [InlineData("gpt2-lora", "llama")]
    public void AnAdapterOfAnotherFamilyIsRefusedWithAllTensorsToo(string adapter, string model)
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        ModelConfig config = ModelConfig.Open(Path.Combine(TestData.Goldens, "models", model));
        NibbleException error = Assert.Throws<NibbleException>(() => Adapters.Load(Path.Combine(Root, adapter), config, backend));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(Root, adapter, PeftConfig.WeightsName));
        Assert.All(file.Entries, entry => Assert.Contains($"{entry.Key}: expected none, found {entry.Value.ShapeText}", error.Message, StringComparison.Ordinal));
        Assert.Contains("another base model", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void NamesOfTargetsThatTheBaseLacksAreNoneAndHeadsAreRefusedByName()
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        using TempFolder folder = new();
        string source = Path.Combine(Root, "llama-lora");
        File.Copy(Path.Combine(source, PeftConfig.WeightsName), folder[PeftConfig.WeightsName]);
        ModelConfig config = ModelConfig.Open(Path.Combine(TestData.Goldens, "models", "llama"));
        string Load(string target)
        {
            System.Text.Json.Nodes.JsonObject json = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(Path.Combine(source, PeftConfig.FileName)))!.AsObject();
            json["target_modules"]!.AsArray().Add(target);
            File.WriteAllText(folder[PeftConfig.FileName], json.ToJsonString());
            using PeftAdapter adapter = (PeftAdapter)Adapters.Load(folder.Path, config, backend);
            using TempFolder saved = new();
            adapter.Save(saved.Path);
            using SafetensorsFile before = SafetensorsFile.Open(folder[PeftConfig.WeightsName]), after = SafetensorsFile.Open(saved[PeftConfig.WeightsName]);
            Assert.Equal(before.Entries.Keys.Order(), after.Entries.Keys.Order());
            return target;
        }

        Assert.Equal("c_attn", Load("c_attn"));
        Assert.Contains("target module lm_head is no layer of a block", Assert.Throws<NibbleException>(() => Load("lm_head")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("use_qalora", "true")]
    [InlineData("lora_bias", "true")]
    [InlineData("modules_to_save", "[\"lm_head\"]")]
    [InlineData("peft_type", "\"ADALORA\"")]
    [InlineData("rank_pattern", "{\"q_proj\": \"16\"}")]
    [InlineData("rank_pattern", "{\"q_proj\": 1.5}")]
    [InlineData("rank_pattern", "{\"q_proj\": 0}")]
    [InlineData("alpha_pattern", "{\"q_proj\": null}")]
    public void AdaptersThatArePlainLoraOnlyInPartAreRefusedByName(string key, string value)
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        using TempFolder folder = new();
        string source = Path.Combine(Root, "llama-lora");
        System.Text.Json.Nodes.JsonObject json = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(Path.Combine(source, PeftConfig.FileName)))!.AsObject();
        json[key] = System.Text.Json.Nodes.JsonNode.Parse(value);
        File.WriteAllText(folder[PeftConfig.FileName], json.ToJsonString());
        File.Copy(Path.Combine(source, PeftConfig.WeightsName), folder[PeftConfig.WeightsName]);
        ModelConfig config = ModelConfig.Open(Path.Combine(TestData.Goldens, "models", "llama"));
        NibbleException error = Assert.Throws<NibbleException>(() => Adapters.Load(folder.Path, config, backend));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains(key, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("gpt2-prefix")]
    [InlineData("llama-prefix")]
    [InlineData("llama-prompt")]
    public void VirtualTokensStandBeforePaddedRowsToo(string name)
    {
        using Adapted adapted = new(name);
        int[][] rows = [[3, 4, 5, 6, 7, 8, 9], [11, 12], [20, 21, 22, 23, 24]];
        float[][][] padded = ModelRun.Batched(adapted.Model, rows, left: true);
        for (int row = 0; row < rows.Length; row++)
        {
            Assert.True(ModelRun.Error(padded[row], ModelRun.Whole(adapted.Model, rows[row])) < Tolerance);
        }

        NibbleException error = Assert.Throws<NibbleException>(() => adapted.Adapter.AddDelta(null!, null!));
        Assert.Contains("can't be merged", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AGenerationAfterVirtualTokensEqualsThatOfEachRowAlone()
    {
        using Adapted adapted = new("llama-prefix");
        int[][] together = Generate(adapted.Model, Prompts);
        Assert.Equal(Generate(adapted.Model, [Prompts[0]])[0], together[0]);
        Assert.Equal(Generate(adapted.Model, [Prompts[1]])[0], together[1]);
    }

    /// <summary>Virtual tokens are written by a row's first pass alone: on a card, steps after it are recorded and have fused launches, as those of other models.</summary>
    [SkippableTheory]
    [InlineData("gpt2-prefix")]
    [InlineData("llama-prefix")]
    [InlineData("llama-prompt")]
    public void AfterVirtualTokensACardRecordsItsSteps(string name)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using Adapted host = new(name);
        EmulatedDevice device = new() { Records = true };
        using (Adapted card = new(name, new CudaBackend(device)))
        {
            Assert.Equal(Generate(host.Model, Prompts), Generate(card.Model, Prompts));
            Assert.Equal(1, device.Recordings);
        }

        using Adapted half = new(name, new CudaBackend(new EmulatedDevice(), DType.BF16));
        int[] row = half.Runs[0].Rows[0];
        Assert.InRange(ModelRun.Error(ModelRun.Cached(half.Model, row, 1), ModelRun.Cached(host.Model, row, 1)), 0, 0.02);
    }

    // One of them has padding.
    private static int[][] Prompts { get; } = [[3, 4, 5, 6, 7, 8, 9], [11, 12]];

    private static int[][] Generate(CausalModel model, int[][] rows)
    {
        using Generator generator = new(model, null, [], rows, new GenerationOptions { MaxTokens = 6, Temperature = 0 });
        int[][] tokens = [.. rows.Select(_ => Array.Empty<int>())];
        foreach (GenerationStep step in generator.Run())
        {
            tokens[step.Row] = [.. tokens[step.Row], step.Token];
        }

        return tokens;
    }

    private static double Error(CausalModel model, GoldenRun run)
    {
        if (model.Facts.Labels > 0)
        {
            return ModelRun.Error(SequenceClassifier.Scores(model, run.Rows), run.Logits.EnumerateArray().Select(GoldenRun.Floats));
        }

        float[][][] actual = ModelRun.Batched(model, run.Rows, left: false);
        float[][][] expected = [.. run.Logits.EnumerateArray().Select(row => row.EnumerateArray().Select(GoldenRun.Floats).ToArray())];
        return ModelRun.Error(actual.SelectMany(row => row), expected.SelectMany(row => row));
    }

    private sealed class Adapted : IDisposable
    {
        private readonly IBackend _backend;
        private readonly IWeightSource _weights;

        /// <summary>On the processor, or on another backend, which it then owns.</summary>
        public Adapted(string name, IBackend? backend = null)
        {
            _backend = backend ?? new CpuBackend(new CpuOptions(Threads: 1));
            string folder = Path.Combine(Root, name);
            using JsonDocument document = JsonDocument.Parse(TestData.Golden(folder, "golden.json"));
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
            (_backend as CudaBackend)?.Dispose();
        }
    }
}
