using System.Text.Json;
using Nibble.IO;

namespace Nibble.SystemTests;

/// <summary>nibble generate as a user runs it, on an embedded model.</summary>
public class GenerateTests
{
    [Fact]
    public void TextGoesToStdoutAndTimesToStderr()
    {
        CliResult result = Cli.Run("generate", Model, "--prompt", "import os\n", "--max-tokens", "8");
        Assert.Equal(0, result.ExitCode);
        Assert.StartsWith("import os\nimport re\nimport sys\n", result.Output, StringComparison.Ordinal);
        Assert.Contains("8 tokens", result.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void TheDocumentHoldsEveryPromptAndTheTimes()
    {
        CliResult result = Cli.Run(
            "generate", Model, "--prompt", "def add(", "--prompt", "class Stack:\n    ", "--max-tokens", "6", "--temperature", "0.7", "--seed", "5", "--json");
        Assert.Equal(0, result.ExitCode);
        Assert.Equal(5, result.Json.GetProperty("seed").GetInt32());
        JsonElement[] rows = [.. result.Json.GetProperty("results").EnumerateArray()];
        Assert.Equal([3, 5], rows.Select(row => row.GetProperty("prompt_tokens").GetInt32()));
        Assert.All(rows, row => Assert.Equal("length", row.GetProperty("finish_reason").GetString()));
        Assert.True(result.Json.GetProperty("metrics").GetProperty("decode_tokens_per_second").GetDouble() > 0);
    }

    [Theory]
    [InlineData(2, "--prompt", "generate", "MODEL")]
    [InlineData(2, "--temperature -1", "generate", "MODEL", "--prompt", "a", "--temperature", "-1")]
    [InlineData(2, "--max-tokens 0", "generate", "MODEL", "--prompt", "a", "--max-tokens", "0")]
    [InlineData(3, "no tokens", "generate", "MODEL", "--prompt", "")]
    [InlineData(2, "names no processors", "generate", "MODEL", "--prompt", "a", "--affinity", "two")]
    [InlineData(2, "int4", "generate", "MODEL", "--prompt", "a", "--kv-cache", "int4")]
    [InlineData(4, "does not exist", "generate", "no/such/model", "--prompt", "a")]
    public void FailuresHaveAMessageAndTheirExitCode(int code, string message, params string[] arguments)
    {
        CliResult result = Cli.Run([.. arguments.Select(argument => argument == "MODEL" ? Model : argument)]);
        Assert.Equal((code, string.Empty), (result.ExitCode, result.Output));
        Assert.Contains(message, result.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void ABoundThreadAndABFloatCacheGiveText()
    {
        CliResult result = Cli.Run("generate", Model, "--prompt", "import os\n", "--max-tokens", "2", "--affinity", "0", "--kv-cache", "bf16", "--json");
        Assert.Equal((0, 1), (result.ExitCode, result.Json.GetProperty("threads").GetInt32()));
        Assert.NotEqual(string.Empty, result.Json.GetProperty("results")[0].GetProperty("text").GetString());
    }

    private static string Model => AssetFolder.Find("assets/nibble-llama-4m");
}
