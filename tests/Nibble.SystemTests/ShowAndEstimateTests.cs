using System.Text.Json;
using Nibble.Formats;
using Nibble.Tensors;

namespace Nibble.SystemTests;

public sealed class ShowAndEstimateTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-show-").FullName;

    public ShowAndEstimateTests()
    {
        File.WriteAllText(Path.Combine(_folder, "config.json"), "{\"model_type\":\"gpt2\",\"n_embd\":768,\"n_layer\":12}");
        using Tensor tensor = Tensor.From<float>(new Shape(2), DType.F32, [1, float.NaN]);
        Safetensors.Save(Path.Combine(_folder, "model.safetensors"), [("w", tensor)]);
    }

    [Fact]
    public void ShowPrintsACardForPeopleAndADocumentForScripts()
    {
        CliResult people = Cli.Run("show", _folder, "--tensors");
        Assert.Equal((0, string.Empty), (people.ExitCode, people.Output));
        Assert.Contains("124,439,808", people.Errors, StringComparison.Ordinal);
        Assert.Contains("12 heads of 64", people.Errors, StringComparison.Ordinal);

        CliResult script = Cli.Run("show", _folder, "--tensors", "--check", "--json");
        Assert.Equal(3, script.ExitCode);
        Assert.Equal(124_439_808, script.Json.GetProperty("card").GetProperty("parameters").GetInt64());
        Assert.Equal("w", script.Json.GetProperty("tensor_list")[0].GetProperty("name").GetString());
        Assert.Equal(1, script.Json.GetProperty("non_finite")[0].GetProperty("element").GetInt64());
    }

    [Theory]
    [InlineData(4, "does not exist", "show", "no/such/model")]
    [InlineData(4, "does not exist", "show", "no.safetensors")]
    [InlineData(2, "show", "show")]
    [InlineData(2, "--rank 0", "estimate", "--rank", "0")]
    [InlineData(2, "match no matrix", "estimate", "--target-modules", "nothing")]
    public void FailuresHaveAMessageAndTheirExitCode(int code, string message, params string[] arguments)
    {
        CliResult result = Cli.Run(arguments);
        Assert.Equal((code, string.Empty), (result.ExitCode, result.Output));
        Assert.Contains(message, result.Errors, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void DamagedAndPickledModelsAreBadInput()
    {
        File.WriteAllText(Path.Combine(_folder, "model.safetensors"), "damaged");
        CliResult damaged = Cli.Run("show", _folder);
        Assert.Equal(3, damaged.ExitCode);
        Assert.Contains("header too small", damaged.Errors, StringComparison.Ordinal);

        File.Move(Path.Combine(_folder, "model.safetensors"), Path.Combine(_folder, "pytorch_model.bin"));
        CliResult pickle = Cli.Run("show", _folder);
        Assert.Equal(3, pickle.ExitCode);
        Assert.Contains("can run any code", pickle.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void EstimateNeedsOnlyAConfig()
    {
        File.Delete(Path.Combine(_folder, "model.safetensors"));
        CliResult result = Cli.Run("estimate", _folder, "--target-modules", "c_attn,c_proj", "--method", "qlora", "--json");
        Assert.Equal(0, result.ExitCode);
        JsonElement qlora = result.Json.GetProperty("estimates")[0].GetProperty("methods")[0];
        Assert.Equal(811_008, qlora.GetProperty("trainable_parameters").GetInt64());
        Assert.Equal(qlora.GetProperty("lines").EnumerateArray().Sum(line => line.GetProperty("bytes").GetInt64()), qlora.GetProperty("total_bytes").GetInt64());
        Assert.True(qlora.GetProperty("fits").GetProperty("24").GetBoolean());
    }

    [Fact]
    public void PatternsChangeRanksOfSomeLayersAndMustMatchSome()
    {
        // 12 layers of width 768: c_attn to 2304 at rank 16, both c_proj (from 768 and 3072) at 4.
        CliResult plan = Cli.Run("finetune", _folder, "--target-modules", "c_attn,c_proj", "--rank-pattern", "c_attn=16,.*c_proj=4", "--alpha-pattern", "c_attn=8", "--dry-run", "--json");
        Assert.True(plan.ExitCode == 0, plan.Errors);
        Assert.Equal(12 * ((16 * (768 + 2304)) + (4 * (768 + 768 + 3072 + 768))), plan.Json.GetProperty("trainable_parameters").GetInt64());
        Assert.Equal(16, plan.Json.GetProperty("settings").GetProperty("rank_pattern").GetProperty("c_attn").GetInt32());
        foreach ((string value, string reason) in new[] { ("c_attn", "is no PATTERN=NUMBER"), ("q_proj=4", "matches no layer that gets an adapter") })
        {
            CliResult refused = Cli.Run("finetune", _folder, "--target-modules", "c_attn", "--rank-pattern", value, "--dry-run");
            Assert.Equal(2, refused.ExitCode);
            Assert.Contains(reason, refused.Errors.ReplaceLineEndings(" "), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("--activations bf16 --method dora", "dora trains with activations in F32 only")]
    [InlineData("--optimizer muon --method lora", "--optimizer muon is for --method full")]
    [InlineData("--optimizer paged-muon --method qlora", "--optimizer muon is for --method full")]
    [InlineData("--optimizer muon --method full --momentum 1.5", "--momentum 1.5: expected 0 to 1")]
    [InlineData("--optimizer sgd --method full --momentum -0.1", "--momentum -0.1: expected 0 to 1")]
    [InlineData("--optimizer sgd --method full --momentum NaN", "--momentum NaN: expected 0 to 1")]
    public void APlanIsRefusedAsTheTrainingIs(string options, string reason)
    {
        CliResult refused = Cli.Run(["finetune", _folder, .. options.Split(' '), "--dry-run"]);
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains(reason, refused.Errors.ReplaceLineEndings(" "), StringComparison.Ordinal);
    }

    [Fact]
    public void OptionsOfQlorasBaseBelongToDoubleQuantizedNf4()
    {
        static string Memory(string folder, params string[] more)
        {
            CliResult result = Cli.Run(["finetune", folder, "--method", "qlora", "--rank", "2", "--max-seq-length", "16", "--batch-size", "1", "--dry-run", "--json", .. more]);
            Assert.True(result.ExitCode == 0, result.Errors);
            return result.Json.GetProperty("memory").GetRawText();
        }

        Assert.Equal(Memory(_folder), Memory(_folder, "--block-size", "64"));
        string wide = Memory(_folder, "--block-size", "512");
        Assert.NotEqual(Memory(_folder), wide);
        Assert.NotEqual(Memory(_folder, "--quantization", "nf4", "--block-size", "512"), wide);
        CliResult refused = Cli.Run("finetune", _folder, "--method", "lora", "--block-size", "64", "--dry-run");
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("--block-size", refused.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void TheBuiltInTableIsThatOfTheDocumentation()
    {
        CliResult result = Cli.Run("estimate");
        Assert.Equal(0, result.ExitCode);
        foreach (string memory in (string[])["109.15 GB", "14.88 GB", "5.36 GB", "19.51 GB", "132.84 GB", "37.09 GB"])
        {
            Assert.Contains(memory, result.Errors, StringComparison.Ordinal);
        }
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
