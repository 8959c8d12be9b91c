using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tests.Models;

public class ModelCardTests
{
    private const string Tiny = "{\"model_type\":\"gpt2\",\"architectures\":[\"GPT2LMHeadModel\"],\"vocab_size\":10,\"n_positions\":4,\"n_embd\":2,\"n_layer\":1,\"n_head\":1}";

    [Fact]
    public void AModelIsShown()
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["config.json"], Tiny);
        File.WriteAllText(folder["tokenizer.json"], "{}");
        SaveTwo(folder["model.safetensors"]);
        ModelCard card = ModelCard.Of(folder.Path);
        Assert.Equal("model", card.Kind);
        Assert.Equal("GPT2LMHeadModel", card.Architecture);
        Assert.Equal(20 + 8 + 4 * 12 + (6 + 2 + 8 + 2) + 8 + 4, card.Parameters);
        Assert.Equal([new DTypeShare("F32", 1, 3, 12), new DTypeShare("I8", 1, 2, 2)], card.Tensors);
        Assert.Equal(14, card.WeightBytes);
        Assert.Equal(new FileInfo(folder["model.safetensors"]).Length, card.FileBytes);
        Assert.Equal(["tokenizer.json"], card.Tokenizer);
        Assert.Equal("multi-head attention, 1 heads of 2", card.Attention);
    }

    [Fact]
    public void AConfigAloneAndAFileAloneAreShown()
    {
        using TempFolder folder = new();
        SaveTwo(folder["x.safetensors"]);
        ModelCard file = ModelCard.Of(folder["x.safetensors"]);
        Assert.Equal(("file", 3L, (string?)null), (file.Kind, file.Parameters!.Value, file.ModelType));
        Assert.Contains("x.safetensors", Assert.Throws<NibbleException>(() => ModelCard.Of(folder.Path)).Why, StringComparison.Ordinal);

        File.WriteAllText(folder["config.json"], Tiny);
        ModelCard config = ModelCard.Of(folder.Path);
        Assert.Equal(("config", 0), (config.Kind, config.Files));
        Assert.Contains("x.safetensors", Assert.Single(config.Warnings), StringComparison.Ordinal);
        Assert.Equal("model", ModelCard.Of(folder["x.safetensors"]).Kind);
    }

    [Fact]
    public void AnAdapterIsShown()
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["adapter_config.json"], "{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16,\"target_modules\":[\"q_proj\",\"v_proj\"],\"base_model_name_or_path\":\"x/y\"}");
        SaveTwo(folder["adapter_model.safetensors"]);
        ModelCard card = ModelCard.Of(folder.Path);
        Assert.Equal("adapter", card.Kind);
        Assert.Equal("q_proj, v_proj", card.Adapter!["target_modules"]);
        Assert.Equal(1, card.Files);
        Assert.Equal(["a", "b"], ModelFiles.Entries(folder.Path).Select(entry => entry.Name));
    }

    [Fact]
    public void QuantizationAndUnknownFamiliesAreTold()
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["config.json"], "{\"model_type\":\"mamba\",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128,\"desc_act\":false}}");
        ModelCard card = ModelCard.Of(folder.Path);
        Assert.Equal("gptq", card.QuantMethod);
        Assert.Equal(("4", "128"), (card.Quantization!["bits"], card.Quantization["group_size"]));
        Assert.Null(card.Parameters);
        Assert.Contains("mamba", Assert.Single(card.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void PathsThatHoldNothingAreRefused()
    {
        using TempFolder folder = new();
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => ModelCard.Of(folder["no"])).Kind);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => ModelCard.Of(folder.Path)).Kind);
        File.WriteAllText(folder["a.txt"], "x");
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => ModelCard.Of(folder["a.txt"])).Kind);
    }

    [Fact]
    public void TensorsWithNaNAreFound()
    {
        using TempFolder folder = new();
        using Tensor good = Tensor.From<float>(new Shape(2), DType.F32, [1, 2]);
        using Tensor bad = Tensor.From<float>(new Shape(2), DType.F32, [1, float.NaN]);
        Safetensors.Save(folder["x.safetensors"], [("good", good), ("bad", bad)]);
        Assert.Equal([new NonFiniteTensor("bad", 1)], ModelFiles.NonFinite(folder["x.safetensors"]));
    }

    private static void SaveTwo(string path)
    {
        using Tensor a = Tensor.OnHost(new Shape(3), DType.F32);
        using Tensor b = Tensor.OnHost(new Shape(2), DType.I8);
        Safetensors.Save(path, [("a", a), ("b", b)]);
    }
}
