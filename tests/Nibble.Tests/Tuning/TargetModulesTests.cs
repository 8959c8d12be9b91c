using System.Text;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

public class TargetModulesTests
{
    private const string Gpt2 =
        """{"model_type":"gpt2","vocab_size":50257,"n_positions":1024,"n_embd":768,"n_layer":12,"n_head":12,"layer_norm_epsilon":1e-5,"activation_function":"gelu_new"}""";

    private const string Llama7B =
        """{"model_type":"llama","hidden_size":4096,"intermediate_size":11008,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":32,"vocab_size":32000,"rms_norm_eps":1e-5,"max_position_embeddings":4096,"hidden_act":"silu","tie_word_embeddings":false}""";

    [Theory]
    [InlineData(Gpt2, "c_attn,c_proj", 811_008)]
    [InlineData(Gpt2, null, 12 * 8 * (768 + 2304))]
    [InlineData(Gpt2, "attn.c_proj", 12 * 8 * (768 + 768))]
    [InlineData(Gpt2, @".*\.(0|1)\.attn\.c_attn", 2 * 8 * (768 + 2304))]
    [InlineData(Gpt2, "all-linear", 12 * 8 * (768 + 2304 + 768 + 768 + 768 + 3072 + 3072 + 768))]
    [InlineData(Llama7B, "q_proj,v_proj", 4_194_304)]
    [InlineData(Llama7B, null, 4_194_304)]
    public void TrainableParametersAreThoseOfPeft(string config, string? targets, long expected)
    {
        (IReadOnlyList<string> names, bool regex) = TargetModules.Parse(targets);
        Assert.Equal(expected, TargetModules.Find(Linears(config), new LoraSettings { TargetModules = names, TargetsAreRegex = regex }).Sum(target => target.ParameterCount));
    }

    [Fact]
    public void AHeadOfThreeLabelsIsTrainedWhole()
    {
        ModelConfig config = ModelConfig.Parse(Encoding.UTF8.GetBytes(Llama7B), "test");
        FineTuneOptions options = new() { Model = "none", Lora = new LoraSettings { Rank = 8, TargetModules = ["q_proj", "v_proj"] } };
        Assert.Equal(4_194_304, FineTunePlan.Of(config, options).TrainableParameters);
        Assert.Equal(4_194_304 + 12_288, FineTunePlan.Of(config, options with { Classification = true, Labels = ["negative", "neutral", "positive"] }).TrainableParameters);
    }

    [Fact]
    public void PatternsChangeRankAndAlphaOfMatchingModules()
    {
        LoraSettings settings = new()
        {
            Rank = 8,
            Alpha = 16,
            TargetModules = ["q_proj", "v_proj"],
            RankPattern = new Dictionary<string, int> { ["layers.3.self_attn.q_proj"] = 4, ["v_proj"] = 2 },
            AlphaPattern = new Dictionary<string, double> { [@".*\.31\..*"] = 5 },
            Layers = [3, 31],
            ExcludeModules = ["layers.31.self_attn.q_proj"],
        };
        (string, int, double)[] found = [.. TargetModules.Find(Linears(Llama7B), settings).Select(target => (target.Linear.Path, target.Rank, target.Alpha))];
        Assert.Equal(
            [("model.layers.3.self_attn.q_proj", 4, 16), ("model.layers.3.self_attn.v_proj", 2, 16), ("model.layers.31.self_attn.v_proj", 2, 5)],
            found);
    }

    [Fact]
    public void PatternsAreReadAndThoseThatMatchNothingRefused()
    {
        Assert.Equal(
            new Dictionary<string, int> { ["c_attn"] = 16, [@"h\.\d{1,2}\.c_fc"] = 4, ["a"] = 2 },
            TargetModules.ParsePatterns<int>("--rank-pattern", [@"c_attn=16, h\.\d{1,2}\.c_fc=4", "a=2"]));
        Assert.Equal(2.5, TargetModules.ParsePatterns<double>("--alpha-pattern", ["c_attn=2.5"])["c_attn"]);
        foreach (string bad in (string[])["c_attn", "c_attn=", "c_attn=x", "c_attn=0", "c_attn=-1", "=4", "c_attn=4,c_proj"])
        {
            Assert.Contains("is no PATTERN=NUMBER", Assert.Throws<NibbleException>(() => TargetModules.ParsePatterns<int>("--rank-pattern", [bad])).Message, StringComparison.Ordinal);
        }

        Assert.Contains("is no PATTERN=NUMBER", Assert.Throws<NibbleException>(() => TargetModules.ParsePatterns<double>("--alpha-pattern", ["c_attn=Infinity"])).Message, StringComparison.Ordinal);
        LoraSettings settings = new() { TargetModules = ["q_proj"], RankPattern = new Dictionary<string, int> { ["v_proj"] = 2 } };
        NibbleException error = Assert.Throws<NibbleException>(() => FineTunePlan.Of(ModelConfig.Parse(Encoding.UTF8.GetBytes(Llama7B), "test"), new FineTuneOptions { Model = "none", Lora = settings }));
        Assert.Contains("rank pattern v_proj matches no layer", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("q_proj,nothing", "nothing")]
    [InlineData("qproj,model.v_prj", "nearest: q_proj, v_proj")]
    [InlineData("lm_head", "lm_head")]
    [InlineData("(", "(")]
    public void WhatMatchesNothingIsRefusedWithWhatThereIs(string targets, string named)
    {
        (IReadOnlyList<string> names, bool regex) = TargetModules.Parse(targets);
        NibbleException error = Assert.Throws<NibbleException>(() => TargetModules.Find(Linears(Llama7B), new LoraSettings { TargetModules = names, TargetsAreRegex = regex }));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    private static IReadOnlyList<LinearSpec> Linears(string json)
    {
        ModelConfig config = ModelConfig.Parse(Encoding.UTF8.GetBytes(json), "config.json");
        return Registry.Architecture(config).Linears(config);
    }
}
