using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.Quantization;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>What the loaders of transformers and optimum-quanto insist on, beside the tensors; found with tools/clients_check.py.</summary>
public sealed class ClientFormTests
{
    private const string BrainFloat = """{"model_type":"llama","dtype":"bfloat16","hidden_size":64,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":128,"vocab_size":96}""";

    [Theory]
    [InlineData("bitsandbytes-4bit", "nf4", "6.0")]
    [InlineData("bitsandbytes-int8", "int8", "6.0")]
    public void Thresholds_are_written_as_floats(string layout, string method, string expected)
    {
        QuantizationSettings settings = Registry.Method(method).Complete(new() { Method = method });
        WeightFacts facts = Registry.Method(method).FactsOf(settings, 32, 64);
        JsonObject section = Registry.Layout(layout).Section(new LayoutModules([("model.layers.0.mlp.up_proj", settings, facts)], ["lm_head"], DType.BF16, OnlyLinear: true));
        Assert.Equal(expected, section["llm_int8_threshold"]!.ToJsonString());
    }

    [Fact]
    public void Quanto_scales_have_the_dtype_of_the_model_unless_another_is_asked_for()
    {
        ModelConfig config = ModelConfig.Parse(System.Text.Encoding.UTF8.GetBytes(BrainFloat), "config.json");
        QuantPlan plan = QuantPlan.Create(config, new PlanRequest(new() { Method = "quanto" }));
        Assert.All(plan.Quantized, tensor => Assert.Equal(DType.BF16, tensor.Facts!.ScaleDType));
        plan = QuantPlan.Create(config, new PlanRequest(new() { Method = "quanto", ScaleDType = DType.F32 }));
        Assert.All(plan.Quantized, tensor => Assert.Equal(DType.F32, tensor.Facts!.ScaleDType));
    }

    [Fact]
    public void A_folder_with_the_map_of_optimum_quanto_alone_is_quantized()
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["config.json"], BrainFloat);
        Assert.Null(ModelConfig.Open(folder.Path).QuantMethod);
        File.WriteAllText(folder["quanto_qmap.json"], "{}");
        Assert.Equal("quanto", ModelConfig.Open(folder.Path).QuantMethod);
    }
}
