using System.Text;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;

namespace Nibble.Tests.Models;

/// <summary>What absent keys of config.json mean: the defaults of transformers' configuration classes, model by model.</summary>
public class AbsentKeyTests
{
    /// <summary>Model, positions, epsilon, theta, key/value heads of 64 query heads, width of a head of 6,400 columns, window of the last of 40 layers.</summary>
    public static TheoryData<string, int, double, double, int, int, int> Absent => new()
    {
        { "llama", 2048, 1e-6, 10_000, 64, 100, 0 },
        { "mistral", 131_072, 1e-6, 10_000, 8, 100, 4096 },
        { "qwen2", 32_768, 1e-6, 10_000, 32, 100, 0 },
        { "qwen3", 32_768, 1e-6, 10_000, 32, 128, 0 },
    };

    [Theory]
    [MemberData(nameof(Absent))]
    public void Keys_that_are_absent_mean_what_they_mean_in_transformers(string type, int positions, double epsilon, double theta, int kvHeads, int headDim, int window)
    {
        LlamaConfig config = Read(type);
        Assert.Equal((positions, (float)epsilon, theta, kvHeads, headDim), (config.Positions, config.Epsilon, config.Rope.Theta, config.KvHeads, config.HeadDim));
        Assert.Equal(window, config.Windows[^1]);
        Assert.Equal((false, false, false), (config.Tied, config.OutputBias, config.MlpBias));
        Assert.Equal(type == "qwen2", config.QkvBias);
        Assert.Equal(window, ModelSizes.Of(Config(type)).Window);
    }

    [Fact]
    public void Bitnet_has_defaults_of_its_own()
    {
        LlamaConfig config = Read("bitnet", ("num_attention_heads", 20));
        Assert.Equal((2048, 1e-5f, 500_000.0, 5, 320), (config.Positions, config.Epsilon, config.Rope.Theta, config.KvHeads, config.HeadDim));
    }

    [Theory]
    [InlineData("llama", 0)]
    [InlineData("mistral", 0)]
    [InlineData("qwen2", 0)]
    [InlineData("qwen3", 0)]
    public void Null_means_none_and_not_absent(string type, int window)
    {
        LlamaConfig config = Read(type, ("num_key_value_heads", null), ("sliding_window", null), ("use_sliding_window", true));
        Assert.Equal((64, window), (config.KvHeads, config.Windows.Max()));
    }

    [Theory]
    [InlineData("llama", 0, 0)]
    [InlineData("qwen2", 0, 4096)]
    [InlineData("qwen3", 0, 4096)]
    [InlineData("mistral", 4096, 4096)]
    public void A_window_that_is_on_without_a_size_is_the_default_one(string type, int first, int last)
    {
        LlamaConfig config = Read(type, ("use_sliding_window", true));
        Assert.Equal((first, first, last, last), (config.Windows[0], config.Windows[27], config.Windows[28], config.Windows[^1]));
    }

    [Theory]
    [InlineData("vocab_size")]
    [InlineData("hidden_size")]
    [InlineData("intermediate_size")]
    [InlineData("num_hidden_layers")]
    [InlineData("num_attention_heads")]
    public void Sizes_of_matrices_are_not_guessed(string key)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => Read("mistral", (key, null)));
        Assert.Contains($"{key} is missing", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_default_that_cannot_be_is_told_as_a_default()
    {
        NibbleException error = Assert.Throws<NibbleException>(() => Read("mistral", ("num_attention_heads", 4)));
        Assert.Contains("num_key_value_heads = absent", error.Message, StringComparison.Ordinal);
        Assert.Contains("it then means 8, and the 4 query heads must be a multiple of that", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Gpt2_is_the_small_model_where_nothing_is_said()
    {
        Gpt2Config config = Gpt2Config.Read(ModelConfig.Parse("{\"model_type\":\"gpt2\"}"u8, "config.json"));
        Assert.Equal((50257, 1024, 768, 12, 12, 3072), (config.Vocabulary, config.Positions, config.Hidden, config.Layers, config.Heads, config.Inner));
        Assert.Equal((1e-5f, true, true, false), (config.Epsilon, config.Tied, config.ScaleByHeadDim, config.ScaleByLayer));
    }

    private static LlamaConfig Read(string type, params (string Key, JsonNode? Value)[] keys) => LlamaConfig.Read(Config(type, keys));

    private static ModelConfig Config(string type, params (string Key, JsonNode? Value)[] keys)
    {
        JsonObject json = new() { ["model_type"] = type, ["vocab_size"] = 1000, ["hidden_size"] = 6400, ["intermediate_size"] = 640, ["num_hidden_layers"] = 40, ["num_attention_heads"] = 64 };
        foreach ((string key, JsonNode? value) in keys)
        {
            json[key] = value;
        }

        return ModelConfig.Parse(Encoding.UTF8.GetBytes(json.ToJsonString()), "config.json");
    }
}
