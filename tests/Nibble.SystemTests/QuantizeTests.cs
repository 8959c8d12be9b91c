using System.Security.Cryptography;
using System.Text.Json;

namespace Nibble.SystemTests;

/// <summary><c>nibble quantize</c> as a user runs it, on the smallest model that the repository has.</summary>
public sealed class QuantizeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-quantize-").FullName;

    public static TheoryData<string, string> Models => new()
    {
        { "gpt2", "--method nf4" },
        { "gpt2", "--method nf4 --double-quant --block-size 128" },
        { "gpt2", "--method fp4" },
        { "gpt2", "--method int8" },
        { "gpt2", "--method rtn --bits 8 --symmetric" },
        { "gpt2", "--method rtn --bits 4 --group-size 32" },
        { "gpt2", "--method rtn --bits 3 --quantize-embeddings" },
        { "gpt2", "--method rtn --bits 2 --group-size -1" },
        { "gpt2", "--method quanto --bits 4" },
        { "gpt2", "--method quanto --bits 8" },
        { "gpt2", "--method quanto --bits 2" },
        { "gpt2", "--method hqq --bits 3" },
        { "llama", "--method hqq --axis 0 --group-size 32" },
        { "llama", "--method rtn --layout gptq --group-size 16" },
        { "llama", "--method rtn --layout awq --group-size 16" },
        { "gpt2", "--method ternary" },
        { "llama", "--method ternary --group-size -1" },
        { "llama", "--method nf4 --quantize-head" },
        { "llama", "--method rtn --override *.mlp.*=rtn:bits=8 --override *.o_proj=none" },
    };

    [Theory]
    [MemberData(nameof(Models))]
    public void A_saved_model_gives_the_same_bits_in_a_fresh_process(string model, string arguments)
    {
        string source = Path.Combine(Repository.Goldens, "models", model);
        string one = Path.Combine(_folder, "one"), two = Path.Combine(_folder, "two");
        string[] options = arguments.Split(' ');
        CliResult first = Cli.Run(["quantize", source, .. options, "-o", one, "--threads", "1", "--verify", "--json"]);
        Assert.True(first.ExitCode == 0, first.Errors);
        Assert.True(first.Json.GetProperty("verified").GetBoolean());
        CliResult second = Cli.Run(["quantize", source, .. options, "-o", two, "--threads", "2", "--json"]);
        Assert.True(second.ExitCode == 0, second.Errors);
        Assert.Equal(Hashes(one), Hashes(two));
        Assert.Equal(LogitsWhenLoaded.Digest(source, options), LogitsWhenLoaded.InFreshProcess(one));
    }

    [Theory]
    [InlineData("--method gptq --bits 4 --group-size 128")]
    [InlineData("--method quanto --bits 8 --activation-bits 8")]
    [InlineData("--method awq --bits 4 --group-size 64 --override *.0.mlp.*=gptq:bits=4")]
    [InlineData("--method awq --bits 3 --group-size 32 --override *.k_proj=none")]
    [InlineData("--method gptq --bits 3 --group-size 64 --act-order --override *.o_proj=none --override *.mlp.*=rtn:bits=8")]
    public void Calibrated_methods_give_the_same_bytes_with_any_number_of_threads(string arguments)
    {
        string source = Path.Combine(Repository.Root, "assets", "nibble-llama-4m");
        string[] options = ["quantize", source, .. arguments.Split(' '), "--data", "demo", "--samples", "4", "--sample-length", "64", "--verify", "--json"];
        string one = Path.Combine(_folder, "one"), two = Path.Combine(_folder, "two");
        CliResult first = Cli.Run([.. options, "-o", one, "--threads", "1"]), second = Cli.Run([.. options, "-o", two, "--threads", "2"]);
        Assert.True(first.ExitCode == 0, first.Errors);
        Assert.True(second.ExitCode == 0, second.Errors);
        Assert.Equal(4, first.Json.GetProperty("calibration").GetProperty("samples").GetInt32());
        Assert.Equal(Hashes(one), Hashes(two));
    }

    [Fact]
    public void A_dry_run_plans_and_writes_nothing()
    {
        string source = Path.Combine(Repository.Goldens, "models", "gpt2");
        CliResult result = Cli.Run("quantize", source, "--method", "nf4", "--dry-run", "--json");
        Assert.True(result.ExitCode == 0, result.Errors);
        JsonElement tensors = result.Json.GetProperty("plan").GetProperty("tensors");
        Assert.Contains(tensors.EnumerateArray(), tensor => tensor.GetProperty("method").GetString() == "none");
        Assert.Equal("bitsandbytes-4bit", result.Json.GetProperty("plan").GetProperty("layout").GetString());
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder));
    }

    [Theory]
    [InlineData("--method nf5", 2, "nf4")]
    [InlineData("--method nf4 --bits 8", 2, "possible are 4")]
    [InlineData("--method nf4 --override nothing*=none", 2, "matches no matrix")]
    [InlineData("--method nf4 --override *.c_attn=rtn:bits=8", 2, "no single layout")]
    [InlineData("--method rtn --layout bitnet", 2, "ternary")]
    [InlineData("--method nf4 --quantize-head", 2, "--quantize-embeddings")]
    [InlineData("--method gptq", 2, "--data")]
    [InlineData("--method quanto --activation-bits 8", 2, "--data")]
    [InlineData("--method quanto --activation-bits 4", 2, "possible is 8")]
    [InlineData("--method rtn --activation-bits 8", 2, "only quanto")]
    [InlineData("--method awq --bits 5", 2, "possible are 2, 3, 4, 8")]
    [InlineData("--method nf4 --device tpu", 2, "--device tpu is not available")]
    [InlineData("--method nf4 --device cuda:77", 4, "cuda")]
    public void Mistakes_are_told_with_what_is_possible(string arguments, int exit, string text)
    {
        string source = Path.Combine(Repository.Goldens, "models", "gpt2");
        CliResult result = Cli.Run(["quantize", source, .. arguments.Split(' '), "-o", Path.Combine(_folder, "out")]);
        Assert.Equal(exit, result.ExitCode);
        Assert.Contains(text, result.Errors, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder));
    }

    [Fact]
    public void A_quantized_model_is_not_quantized_again_and_damage_is_found()
    {
        string source = Path.Combine(Repository.Goldens, "models", "gpt2"), output = Path.Combine(_folder, "out");
        Assert.Equal(0, Cli.Run("quantize", source, "--method", "nf4", "-o", output).ExitCode);
        CliResult again = Cli.Run("quantize", output, "--method", "nf4", "-o", Path.Combine(_folder, "again"));
        Assert.Equal(3, again.ExitCode);
        Assert.Contains("quantized already", again.Errors, StringComparison.Ordinal);
        Assert.Equal(0, Cli.Run("quantize", output, "--verify-only").ExitCode);

        string weights = Path.Combine(output, "model.safetensors");
        byte[] bytes = File.ReadAllBytes(weights);
        bytes[^100] ^= 1;
        File.WriteAllBytes(weights, bytes);
        CliResult damaged = Cli.Run("quantize", output, "--verify-only");
        Assert.Equal(1, damaged.ExitCode);
        Assert.Contains("do not read back", damaged.Errors, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static string[] Hashes(string folder) =>
        [.. Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal).Select(file => $"{Path.GetFileName(file)} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file)))}")];
}
