using System.Text;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>What a plan covers, what it keeps, and what it refuses; and checkpoints whose section lies about their tensors.</summary>
public sealed class QuantPlanTests
{
    private static readonly string Gpt2 = Path.Combine(TestData.Goldens, "models", "gpt2");
    private static readonly string Llama = Path.Combine(TestData.Goldens, "models", "llama");

    [Theory]
    [InlineData("gpt2", 4)]
    [InlineData("llama", 7)]
    public void Every_matrix_of_every_block_is_quantized_and_nothing_else(string model, int eachBlock)
    {
        ModelConfig config = ModelConfig.Open(Path.Combine(TestData.Goldens, "models", model));
        QuantPlan plan = QuantPlan.Create(config, Request("nf4"));
        int blocks = Registry.Architecture(config).Facts(config).Layers;
        Assert.Equal(eachBlock * blocks, plan.Quantized.Count());
        Assert.All(plan.Tensors, tensor => Assert.Equal(tensor.Spec.Role == LinearRole.Block, tensor.Settings is not null));
    }

    [Fact]
    public void The_last_override_that_matches_wins()
    {
        PlanRequest request = Request("rtn") with
        {
            Overrides = [PlanOverride.Parse("*.mlp.*=rtn:bits=8,group-size=32"), PlanOverride.Parse("*.down_proj=rtn:bits=3"), PlanOverride.Parse("*.o_proj=none")],
        };
        QuantPlan plan = QuantPlan.Create(ModelConfig.Open(Llama), request);
        int? BitsOf(string end) => plan.Tensors.First(tensor => tensor.Spec.Path.EndsWith(end, StringComparison.Ordinal)).Settings?.Bits;
        Assert.Equal((8, 3, null, 4), (BitsOf("up_proj"), BitsOf("down_proj"), BitsOf("o_proj"), BitsOf("q_proj")));
    }

    [Theory]
    [InlineData("=nf4")]
    [InlineData("*.mlp.*")]
    [InlineData("*=rtn:bits=four")]
    [InlineData("*=rtn:colour=red")]
    [InlineData("*=nf5")]
    public void Overrides_that_are_not_understood_are_refused(string text) =>
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => PlanOverride.Parse(text)).Kind);

    [Fact]
    public void A_matrix_that_the_architecture_does_not_know_is_refused()
    {
        using TempFolder folder = new();
        using (HfFolder source = HfFolder.Open(Gpt2))
        {
            Tensor extra = Tensor.OnHost(new Shape(4, 4), DType.F32);
            Safetensors.Save(folder["model.safetensors"], [.. source.Names.Select(name => (name, source.Load(name))), ("transformer.h.0.mlp.extra.weight", extra)]);
        }

        File.Copy(Path.Combine(Gpt2, "config.json"), folder["config.json"]);
        NibbleException error = Assert.Throws<NibbleException>(() => Quantizer.Prepare(folder.Path, Request("nf4")));
        Assert.Contains("transformer.h.0.mlp.extra.weight", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_tensors_of_a_quantized_model_are_all_listed()
    {
        using TempFolder folder = new();
        Damage(folder, name => !name.EndsWith("c_attn.weight_scale", StringComparison.Ordinal), _ => { });
        NibbleException error = Assert.Throws<NibbleException>(() => LoadedModel.Load(folder["out"]));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("transformer.h.0.attn.c_attn.weight_scale", error.Message, StringComparison.Ordinal);
        Assert.Contains("transformer.h.1.attn.c_attn.weight_scale", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("num_bits", 8)]
    [InlineData("num_bits", 99)]
    [InlineData("group_size", 7)]
    [InlineData("symmetric", true)]
    [InlineData("strategy", "block")]
    [InlineData("type", "float")]
    public void A_section_that_lies_about_its_tensors_is_refused(string key, object value)
    {
        using TempFolder folder = new();
        Damage(folder, _ => true, section => section["config_groups"]!["group_0"]!["weights"]![key] = JsonValue.Create(value));
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => LoadedModel.Load(folder["out"])).Kind);
    }

    [Theory]
    [InlineData("*=rtn:group_size=16", "gptq", "bits", 8)]
    [InlineData("*=rtn:group_size=16", "gptq", "group_size", 32)]
    [InlineData("*=rtn:group_size=16", "gptq", "sym", true)]
    [InlineData("*=rtn:group_size=16", "awq", "bits", 8)]
    [InlineData("*=rtn:group_size=16", "awq", "group_size", 32)]
    [InlineData("*=hqq:bits=3,group_size=16", "hqq", "quant_config/weight_quant_params/nbits", 4)]
    [InlineData("*=nf4", "bitsandbytes-4bit", "bnb_4bit_quant_type", "fp4")]
    public void Sections_of_other_layouts_may_not_lie_either(string method, string layout, string key, object value)
    {
        using TempFolder folder = new();
        string model = MethodTable.WriteModel(folder["model"], "llama");
        Quantizer.Run(model, folder["out"], new PlanRequest(PlanOverride.Parse(method).Settings!) { Layout = layout });
        LoadedModel.Load(folder["out"]).Dispose();
        string path = Path.Combine(folder["out"], "config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllText(path))!.AsObject(), section = config["quantization_config"]!.AsObject();
        string[] keys = key.Split('/');
        foreach (string part in keys[..^1])
        {
            section = section[part]!.AsObject();
        }

        Assert.True(section.ContainsKey(keys[^1]));
        section[keys[^1]] = JsonValue.Create(value);
        File.WriteAllText(path, config.ToJsonString());
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => LoadedModel.Load(folder["out"])).Kind);
    }

    [Theory]
    [InlineData("gptq", "*.mlp.*=rtn:symmetric=true")]
    [InlineData("awq", "*.mlp.*=rtn:group_size=32")]
    public void Weights_that_a_layout_cannot_hold_together_are_refused(string layout, string other)
    {
        using TempFolder folder = new();
        ModelConfig config = ModelConfig.Open(MethodTable.WriteModel(folder["model"], "llama"));
        NibbleException error = Assert.Throws<NibbleException>(() => QuantPlan.Create(config, Request("rtn", group: 16) with { Layout = layout, Overrides = [PlanOverride.Parse(other)] }));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("compressed-tensors", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("gptq", "*.mlp.*=rtn:bits=8,group_size=32")]
    [InlineData("gptq", "*.down_proj=rtn:group_size=-1")]
    [InlineData("compressed-tensors", "*.mlp.*=rtn:bits=3,symmetric=true")]
    [InlineData("hqq", "*.mlp.*=hqq:bits=3")]
    public void Mixed_settings_come_back_to_the_same_logits(string layout, string other)
    {
        using TempFolder folder = new();
        string model = MethodTable.WriteModel(folder["model"], "llama");
        PlanRequest request = Request(layout == "hqq" ? "hqq" : "rtn", group: 16) with { Layout = layout, Overrides = [PlanOverride.Parse(other)] };
        Quantizer.Run(model, folder["out"], request);
        LogitPairs.AssertEqual(folder["out"], null, model, request);
    }

    [Fact]
    public void A_layout_that_is_not_supported_is_refused_with_the_list()
    {
        using TempFolder folder = new();
        Damage(folder, _ => true, section => section["quant_method"] = "aqlm");
        NibbleException error = Assert.Throws<NibbleException>(() => LoadedModel.Load(folder["out"]));
        Assert.Contains("aqlm", error.Message, StringComparison.Ordinal);
        Assert.Contains("bitsandbytes", error.Message, StringComparison.Ordinal);
    }

    /// <summary>A quantized model without some tensors, or with another section.</summary>
    private static void Damage(TempFolder folder, Func<string, bool> keep, Action<JsonObject> change)
    {
        Quantizer.Run(Gpt2, folder["whole"], Request("rtn", group: 16));
        Directory.CreateDirectory(folder["out"]);
        JsonObject config = JsonNode.Parse(File.ReadAllText(Path.Combine(folder["whole"], "config.json")))!.AsObject();
        change(config["quantization_config"]!.AsObject());
        File.WriteAllText(Path.Combine(folder["out"], "config.json"), config.ToJsonString(), Encoding.UTF8);
        using HfFolder whole = HfFolder.Open(folder["whole"]);
        Safetensors.Save(Path.Combine(folder["out"], "model.safetensors"), whole.Names.Where(keep).Select(name => (name, whole.Load(name))));
    }

    private static PlanRequest Request(string method, int? group = null) => new(new QuantizationSettings { Method = method, GroupSize = group });
}
