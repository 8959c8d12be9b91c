using System.Reflection;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Models;

/// <summary>What loading refuses, and what it says.</summary>
public class LoadingTests
{
    [Fact]
    public void AllTensorsThatDoNotFitAreNamedAtOnceWithBothShapes()
    {
        using TempFolder folder = Copy("llama-biases", config =>
        {
            config["num_hidden_layers"] = 3;
            config["intermediate_size"] = 80;
        });
        string message = Refusal(folder.Path);
        Assert.Contains("model.layers.2.self_attn.q_proj.weight: missing, expected [48, 48]", message, StringComparison.Ordinal);
        Assert.Contains("model.layers.2.input_layernorm.weight: missing, expected [48]", message, StringComparison.Ordinal);
        Assert.Contains("model.layers.0.mlp.gate_proj.weight: expected [80, 48], found [96, 48]", message, StringComparison.Ordinal);
        Assert.Contains("model.layers.1.mlp.up_proj.bias: expected [80], found [96]", message, StringComparison.Ordinal);
    }

    [Fact]
    public void AVocabularyThatDoesNotFitTheEmbeddingIsRefused()
    {
        using TempFolder folder = Copy("gpt2", config => config["vocab_size"] = 97);
        Assert.Contains("transformer.wte.weight: expected [97, 48], found [96, 48]", Refusal(folder.Path), StringComparison.Ordinal);
    }

    [Fact]
    public void ATokenizerThatDoesNotFitTheEmbeddingIsRefused()
    {
        using TempFolder folder = Copy("gpt2", _ => { });
        File.Copy(Path.Combine(TestData.Assets, "nibble-gpt2-10m", "tokenizer.json"), folder["tokenizer.json"]);
        Assert.Contains("the tokenizer has 8,192 tokens, the embedding 96 rows", Refusal(folder.Path), StringComparison.Ordinal);
    }

    [Fact]
    public void WithoutATokenizerAModelRunsOnTokens()
    {
        using LoadedModel loaded = LoadedModel.Load(Path.Combine(TestData.Goldens, "models", "gpt2"));
        Assert.False(loaded.HasTokenizer);
        Assert.Equal(3, loaded.LogLikelihoods([5, 6, 7, 8]).Length);
        NibbleException error = Assert.Throws<NibbleException>(() => loaded.Generate("text").ToList());
        Assert.Equal(ErrorKind.NotFound, error.Kind);
        Assert.Contains("tokenizer.json", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void EveryMethodOfADisposedModelSaysThatItWasDisposed()
    {
        LoadedModel loaded = LoadedModel.Load(Path.Combine(TestData.Goldens, "models", "gpt2"));
        Generator generator = loaded.CreateGenerator([[1, 2, 3]], new GenerationOptions { MaxTokens = 3 });
        IEnumerable<string> text = loaded.Generate("text");
        loaded.Dispose();
        loaded.Dispose();
        (string Name, Action Call)[] calls =
        [
            (nameof(loaded.FinishPackCache), () => loaded.FinishPackCache()),
            (nameof(loaded.ChatTemplate), () => loaded.ChatTemplate()),
            (nameof(loaded.Generate), () => loaded.Generate("text")),
            (nameof(loaded.CreateGenerator), () => loaded.CreateGenerator(["text"], new GenerationOptions())),
            (nameof(loaded.CreateGenerator), () => loaded.CreateGenerator([[1, 2, 3]], new GenerationOptions())),
            (nameof(loaded.Perplexity), () => loaded.Perplexity("text")),
            (nameof(loaded.LogLikelihoods), () => loaded.LogLikelihoods([5, 6, 7])),
        ];
        string[] all = [.. typeof(LoadedModel).GetMethods(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly).Where(method => !method.IsSpecialName && method.Name != "Dispose").Select(method => method.Name)];
        Assert.Equal(all.Order(StringComparer.Ordinal), calls.Select(call => call.Name).Order(StringComparer.Ordinal));
        foreach (Action call in calls.Select(call => call.Call).Append(() => generator.Run().ToList()).Append(() => text.ToList()))
        {
            Assert.Contains("The model was disposed", Assert.Throws<ObjectDisposedException>(call).Message, StringComparison.Ordinal);
        }

        generator.Dispose();
    }

    [Theory]
    [InlineData("model_type", "bert", "supported are gpt2, llama")]
    [InlineData("hidden_act", "gelu", "supported with silu")]
    [InlineData("num_key_value_heads", 3, "must be a multiple")]
    [InlineData("num_attention_heads", 0, "expected a value from 1")]
    [InlineData("num_attention_heads", 16_000_000, "wider than the")]
    [InlineData("hidden_size", "many", "expected a whole number")]
    [InlineData("partial_rotary_factor", 0.5, "rotate whole heads")]
    [InlineData("head_dim", 11, "even width")]
    public void ConfigsThatCannotBeServedAreRefused(string key, object value, string expected)
    {
        using TempFolder folder = Copy("llama", config =>
        {
            config.Remove("rope_parameters");
            config[key] = JsonValue.Create(value);
        });
        Assert.Contains(expected, Refusal(folder.Path), StringComparison.Ordinal);
    }

    [Fact]
    public void UnknownPositionScalingIsRefused()
    {
        using TempFolder folder = Copy("llama", config => config["rope_parameters"] = new JsonObject { ["rope_type"] = "yarn", ["factor"] = 4 });
        Assert.Contains("supported are default, linear, llama3", Refusal(folder.Path), StringComparison.Ordinal);
    }

    [Fact]
    public void AWeightThatIsNotFiniteIsNamed()
    {
        using TempFolder folder = Copy("gpt2", _ => { });
        Spoil(folder["model.safetensors"], "transformer.h.1.mlp.c_fc.weight", element: 77);
        string message = Refusal(folder.Path);
        Assert.Contains("transformer.h.1.mlp.c_fc.weight", message, StringComparison.Ordinal);
        Assert.Contains("77", message, StringComparison.Ordinal);
    }

    [Fact]
    public void TensorsThatNoLayerTakesAreMentioned()
    {
        using TempFolder folder = Copy("gpt2-classification", config => config["architectures"] = new JsonArray("GPT2LMHeadModel"));
        using LoadedModel loaded = LoadedModel.Load(folder.Path);
        Assert.Contains(loaded.Warnings, warning => warning.Contains("score.weight", StringComparison.Ordinal));
        Assert.Equal(0, loaded.Facts.Labels);
    }

    [Theory]
    [MemberData(nameof(GoldenModel.Names), MemberType = typeof(GoldenModel))]
    public void ParametersAreKnownFromTheConfigAlone(string name)
    {
        using GoldenModel golden = new(name);
        string folder = Path.Combine(TestData.Goldens, name);
        ModelConfig config = ModelConfig.Open(folder);
        IArchitecture architecture = Registry.Architecture(config);
        using HfFolder files = HfFolder.Open(folder);
        Assert.Equal(files.Names.Sum(tensor => files.Entry(tensor).Count), ModelBuilder.CountParameters(architecture, config));
        Assert.Equal(golden.Model.ParameterCount, ModelBuilder.CountParameters(architecture, config));
        Assert.Equal(architecture.Linears(config).Count, golden.Model.Weights.Count());
        Assert.Equal(architecture.Facts(config), golden.Model.Facts);
    }

    [Fact]
    public void DtypeOfDenseWeightsCanBeChosen()
    {
        using LoadedModel f32 = LoadedModel.Load(Path.Combine(TestData.Goldens, "models", "llama"));
        using LoadedModel bf16 = LoadedModel.Load(f32.Path, new LoadOptions { Dtype = DType.BF16 });
        Assert.True(bf16.Model.WeightBytes < 0.6 * f32.Model.WeightBytes);
        double difference = f32.LogLikelihoods([1, 2, 3]).Zip(bf16.LogLikelihoods([1, 2, 3]), (a, b) => Math.Abs(a - b)).Max();
        Assert.InRange(difference, 1e-6, 0.3);
    }

    [Fact]
    public void AQuantizedTiedEmbeddingServesHeadAndRows()
    {
        string path = Path.Combine(TestData.Goldens, "models", "llama-gqa-llama3-tied");
        PlanRequest request = new(new QuantizationSettings { Method = "rtn", Bits = 8, GroupSize = 16 }) { Embeddings = true };
        using LoadedModel dense = LoadedModel.Load(path);
        using LoadedModel quantized = LoadedModel.Load(path, new LoadOptions { Quantization = request });
        Assert.Equal(dense.Model.Weights.Select(item => item.Path), quantized.Model.Weights.Select(item => item.Path));
        Assert.NotEqual(dense.Model.Weights.First().Weight.Name, quantized.Model.Weights.First().Weight.Name);
        int[] tokens = [1, 40, 7, 95, 3];
        Assert.InRange(ModelRun.Error(ModelRun.Whole(quantized.Model, tokens), ModelRun.Whole(dense.Model, tokens)), 1e-6, 0.02);
        // One pass over all tokens gathers the same rows as passes over one each.
        Assert.InRange(ModelRun.Error(ModelRun.Cached(quantized.Model, tokens, step: 1), ModelRun.Whole(quantized.Model, tokens)), 0, 1e-5);
    }

    private static string Refusal(string folder)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => LoadedModel.Load(folder));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        return error.Message;
    }

    private static TempFolder Copy(string name, Action<JsonObject> change)
    {
        TempFolder folder = new();
        string source = Path.Combine(TestData.Goldens, "models", name);
        File.Copy(Path.Combine(source, "model.safetensors"), folder["model.safetensors"]);
        JsonObject config = JsonNode.Parse(File.ReadAllText(Path.Combine(source, "config.json")))!.AsObject();
        change(config);
        File.WriteAllText(folder["config.json"], config.ToJsonString());
        return folder;
    }

    private static void Spoil(string path, string tensor, int element)
    {
        long offset;
        using (SafetensorsFile file = SafetensorsFile.Open(path))
        {
            offset = file.Entries[tensor].Offset;
        }

        using FileStream stream = File.OpenWrite(path);
        stream.Position = offset + (element * sizeof(float));
        stream.Write(BitConverter.GetBytes(float.PositiveInfinity));
    }
}
