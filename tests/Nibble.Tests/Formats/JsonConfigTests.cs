using System.Text;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Tests.Formats;

public class JsonConfigTests
{
    /// <summary>Documents that are no config at all.</summary>
    [Theory]
    [InlineData("", "not valid JSON")]
    [InlineData("{", "not valid JSON")]
    [InlineData("[1]", "not a JSON object")]
    [InlineData("null", "not a JSON object")]
    [InlineData("{\"a\":1,\"a\":2}", "not valid JSON")]
    [InlineData("{\"s\":{\"a\":1,\"a\":2}}", "not valid JSON")]
    [InlineData("{\"a\":1}x", "not valid JSON")]
    [InlineData("{\"a\":NaN}", "not valid JSON")]
    [InlineData("{\"a\":1,}", "not valid JSON")]
    public void IsRefused(string json, string expected)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => Parse(json));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.StartsWith($"config.json is {expected}", error.What, StringComparison.Ordinal);
    }

    [Fact]
    public void DepthAndSizeAreLimited()
    {
        string deep = "{\"a\":" + new string('[', 100) + new string(']', 100) + "}";
        Assert.Throws<NibbleException>(() => Parse(deep));
        using TempFolder folder = new();
        File.WriteAllText(folder["c"], "{\"a\":1}");
        Assert.Contains("7 bytes", Assert.Throws<NibbleException>(() => JsonConfig.Open(folder["c"], new Limits { JsonBytes = 6 })).Why, StringComparison.Ordinal);
        Assert.Equal(1, JsonConfig.Open(folder["c"]).GetInt("a"));
    }

    /// <summary>Value of the key, what is asked, and what the refusal says of key and value.</summary>
    [Theory]
    [InlineData("\"64\"", "a whole number")]
    [InlineData("64.0", "a whole number")]
    [InlineData("64.5", "a whole number")]
    [InlineData("1e2", "a whole number")]
    [InlineData("true", "a whole number")]
    [InlineData("[64]", "a whole number")]
    [InlineData("{}", "a whole number")]
    [InlineData("99999999999999999999", "a whole number")]
    [InlineData("0", "from 1 to 1000")]
    [InlineData("-5", "from 1 to 1000")]
    [InlineData("1001", "from 1 to 1000")]
    [InlineData("4294967297", "from 1 to 1000")]
    public void WrongNumbersNameFileKeyAndValue(string value, string expected)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => Parse($"{{\"hidden_size\":{value}}}").GetInt("hidden_size", min: 1, max: 1000));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Equal($"config.json: hidden_size = {value}", error.What);
        Assert.Contains(expected, error.Why, StringComparison.Ordinal);
    }

    [Fact]
    public void AbsentKeysAreNamedOrTakeTheFallback()
    {
        JsonConfig config = Parse("{\"x\":null,\"n_embd\":8,\"rope\":{\"factor\":\"big\"}}");
        Assert.Equal("config.json: hidden_size or width is missing", Assert.Throws<NibbleException>(() => config.GetInt("hidden_size|width")).What);
        Assert.Equal(8, config.GetInt("hidden_size|n_embd"));
        Assert.Equal(3, config.GetInt("x", 3));
        Assert.Equal(1e4, config.GetDouble("rope_theta", 1e4));
        Assert.True(config.GetBool("tie", true));
        Assert.Null(config.GetString("name", null));
        Assert.Null(config.Section("no"));
        Assert.Empty(config.GetInts("eos_token_id"));
        Assert.Equal("config.json: rope.factor = \"big\"", Assert.Throws<NibbleException>(() => config.Section("rope")!.GetDouble("factor")).What);
        Assert.Equal("config.json: n_embd = 8", Assert.Throws<NibbleException>(() => config.Refuse("n_embd", "not divisible")).What);
    }

    [Fact]
    public void OneValueOrManyAreBothLists()
    {
        JsonConfig config = Parse("\uFEFF{\"a\":2,\"b\":[1,2],\"c\":[1,\"x\"],\"d\":\"s\",\"e\":[\"s\",\"t\"],\"f\":[1.5]}");
        Assert.Equal([2], config.GetInts("a"));
        Assert.Equal([1, 2], config.GetInts("b"));
        Assert.Throws<NibbleException>(() => config.GetInts("c"));
        Assert.Throws<NibbleException>(() => config.GetInts("f"));
        Assert.Throws<NibbleException>(() => config.GetInts("b", min: 2));
        Assert.Equal(["s"], config.GetStrings("d"));
        Assert.Equal(["s", "t"], config.GetStrings("e"));
        Assert.Throws<NibbleException>(() => config.GetStrings("a"));
    }

    [Fact]
    public void LongValuesAreShortenedInMessages() =>
        Assert.True(Assert.Throws<NibbleException>(() => Parse($"{{\"a\":\"{new string('x', 10000)}\"}}").GetInt("a")).What.Length < 120);

    [Fact]
    public void MultimodalConfigsGiveTheirTextPart()
    {
        ModelConfig config = Model("{\"model_type\":\"llava\",\"dtype\":\"bfloat16\",\"text_config\":{\"model_type\":\"llama\",\"hidden_size\":8}}");
        Assert.Equal("llama", config.ModelType);
        Assert.Equal(8, config.Text.GetInt("hidden_size"));
        Assert.Equal("bfloat16", config.DTypeName);
        Assert.Equal("gpt2", Model("{\"model_type\":\"gpt2\",\"n_embd\":8}").ModelType);
        Assert.Contains("model_type is missing", Assert.Throws<NibbleException>(() => Model("{}")).What, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"quant_method\":\"gptq\",\"bits\":4}", "gptq")]
    [InlineData("{\"load_in_4bit\":true}", "bitsandbytes")]
    [InlineData("{\"bits\":4,\"group_size\":128}", "gptq")]
    [InlineData("{\"w_bit\":4,\"version\":\"gemm\"}", "awq")]
    public void TheQuantizationLayoutIsRecognized(string section, string expected)
    {
        Assert.Equal(expected, Model($"{{\"model_type\":\"llama\",\"quantization_config\":{section}}}").QuantMethod);
        Assert.Equal(expected, Model($"{{\"model_type\":\"llava\",\"text_config\":{{\"hidden_size\":1,\"quantization_config\":{section}}}}}").QuantMethod);
    }

    [Theory]
    [InlineData("{\"quant_method\":\"zip\"}", "quant_method = \"zip\"")]
    [InlineData("{\"quant_method\":4}", "quant_method = 4")]
    [InlineData("{}", "no quant_method")]
    [InlineData("\"gptq\"", "quantization_config = \"gptq\"")]
    public void UnknownLayoutsAreRefusedWithTheKnownOnes(string section, string expected)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => Model($"{{\"model_type\":\"llama\",\"quantization_config\":{section}}}"));
        Assert.Contains(expected, error.What, StringComparison.Ordinal);
    }

    [Fact]
    public void AnOlderQuantizeConfigBesideTheConfigIsRead()
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["config.json"], "{\"model_type\":\"llama\"}");
        Assert.Null(ModelConfig.Open(folder.Path).QuantMethod);
        File.WriteAllText(folder["quantize_config.json"], "{\"bits\":4,\"group_size\":128,\"desc_act\":false}");
        Assert.Equal("gptq", ModelConfig.Open(folder["config.json"]).QuantMethod);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => ModelConfig.Open(folder["no/model.safetensors"])).Kind);
    }

    private static JsonConfig Parse(string json) => JsonConfig.Parse(Encoding.UTF8.GetBytes(json), "config.json");

    private static ModelConfig Model(string json) => ModelConfig.Parse(Encoding.UTF8.GetBytes(json), "config.json");
}
