using System.Text;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;

namespace Nibble.Tests.Models;

/// <summary>Published parameter counts, from the configs alone.</summary>
public class ModelSizesTests
{
    private const string Llama = "\"model_type\":\"llama\",\"vocab_size\":32000,\"hidden_size\":4096,\"intermediate_size\":11008,\"num_hidden_layers\":32,\"num_attention_heads\":32";

    [Theory]
    [InlineData("gpt2", "\"model_type\":\"gpt2\"", 124_439_808)]
    [InlineData("gpt2-medium", "\"model_type\":\"gpt2\",\"n_embd\":1024,\"n_layer\":24,\"n_head\":16", 354_823_168)]
    [InlineData("gpt2-large", "\"model_type\":\"gpt2\",\"n_embd\":1280,\"n_layer\":36,\"n_head\":20", 774_030_080)]
    [InlineData("gpt2-xl", "\"model_type\":\"gpt2\",\"n_embd\":1600,\"n_layer\":48,\"n_head\":25", 1_557_611_200)]
    [InlineData("LLaMA-2-7B", Llama, 6_738_415_616)]
    [InlineData("LLaMA-2-70B", "\"model_type\":\"llama\",\"vocab_size\":32000,\"hidden_size\":8192,\"intermediate_size\":28672,\"num_hidden_layers\":80,\"num_attention_heads\":64,\"num_key_value_heads\":8", 68_976_648_192)]
    [InlineData("Llama-3-8B", "\"model_type\":\"llama\",\"vocab_size\":128256,\"hidden_size\":4096,\"intermediate_size\":14336,\"num_hidden_layers\":32,\"num_attention_heads\":32,\"num_key_value_heads\":8", 8_030_261_248)]
    [InlineData("TinyLlama-1.1B", "\"model_type\":\"llama\",\"vocab_size\":32000,\"hidden_size\":2048,\"intermediate_size\":5632,\"num_hidden_layers\":22,\"num_attention_heads\":32,\"num_key_value_heads\":4", 1_100_048_384)]
    [InlineData("Mistral-7B", "\"model_type\":\"mistral\",\"vocab_size\":32000,\"hidden_size\":4096,\"intermediate_size\":14336,\"num_hidden_layers\":32,\"num_attention_heads\":32,\"num_key_value_heads\":8,\"sliding_window\":4096", 7_241_732_096)]
    [InlineData("Qwen2-0.5B", "\"model_type\":\"qwen2\",\"vocab_size\":151936,\"hidden_size\":896,\"intermediate_size\":4864,\"num_hidden_layers\":24,\"num_attention_heads\":14,\"num_key_value_heads\":2,\"tie_word_embeddings\":true", 494_032_768)]
    [InlineData("Qwen3-0.6B", "\"model_type\":\"qwen3\",\"vocab_size\":151936,\"hidden_size\":1024,\"intermediate_size\":3072,\"num_hidden_layers\":28,\"num_attention_heads\":16,\"num_key_value_heads\":8,\"head_dim\":128,\"tie_word_embeddings\":true", 596_049_920)]
    [InlineData("LLaMA-2-7B with 3 labels", Llama + ",\"architectures\":[\"LlamaForSequenceClassification\"],\"id2label\":{\"0\":\"a\",\"1\":\"b\",\"2\":\"c\"}", 6_607_355_904)]
    public void ParametersAreThePublishedOnes(string name, string config, long expected) =>
        Assert.True(expected == Sizes(config).Parameters.Total, $"{name}: {Sizes(config).Parameters}");

    [Fact]
    public void TheBuiltInTableHasTheFirstLlamas() =>
        Assert.Equal([6_738_415_616, 13_015_864_320, 32_528_943_616, 65_285_660_672], KnownModels.Llama.Select(model => model.Sizes.Parameters.Total));

    [Theory]
    [InlineData("", "multi-head attention, 32 heads of 128")]
    [InlineData(",\"num_key_value_heads\":8", "grouped-query attention, 32 query heads on 8 key/value heads of 128")]
    [InlineData(",\"num_key_value_heads\":1", "multi-query attention, 32 query heads on 1 key/value head of 128")]
    [InlineData(",\"use_sliding_window\":true,\"sliding_window\":4096,\"layer_types\":null", "multi-head attention, 32 heads of 128")]
    public void TheKindOfAttentionIsTold(string more, string expected) => Assert.Equal(expected, Sizes(Llama + more).Attention);

    [Theory]
    [InlineData("\"model_type\":\"falcon\"", "'falcon' is not supported")]
    [InlineData("\"model_type\":\"llama\"", "hidden_size is missing")]
    [InlineData("\"model_type\":\"gpt2\",\"n_embd\":0", "n_embd = 0")]
    [InlineData("\"model_type\":\"gpt2\",\"n_embd\":-768", "n_embd = -768")]
    [InlineData("\"model_type\":\"gpt2\",\"n_embd\":1e3", "n_embd = 1e3")]
    [InlineData("\"model_type\":\"gpt2\",\"n_embd\":100000000", "n_embd = 100000000")]
    [InlineData("\"model_type\":\"gpt2\",\"n_layer\":5000", "n_layer = 5000")]
    [InlineData("\"model_type\":\"gpt2\",\"n_head\":7", "n_head = 7")]
    [InlineData("\"model_type\":\"gpt2\",\"n_embd\":16777216,\"n_layer\":4096,\"n_head\":1", "n_layer = 4096")]
    [InlineData("\"model_type\":\"gpt2\",\"vocab_size\":\"big\"", "vocab_size = \"big\"")]
    public void AbsurdConfigsAreRefusedByKeyAndValue(string config, string expected)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => Sizes(config));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.StartsWith("config.json", error.What, StringComparison.Ordinal);
        Assert.Contains(expected, error.What, StringComparison.Ordinal);
    }

    internal static ModelSizes Sizes(string members) => ModelSizes.Of(ModelConfig.Parse(Encoding.UTF8.GetBytes("{" + members + "}"), "config.json"));
}
