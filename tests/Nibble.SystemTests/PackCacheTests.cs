using System.Text.Json;

namespace Nibble.SystemTests;

/// <summary>nibble generate with a model that is just large enough for a file of packed weights.</summary>
public sealed class PackCacheTests : IDisposable
{
    private const string Kept = "packed weights kept for the next start";

    // 16 numbers of four bytes a row: 70 MB.
    private const int Rows = 1_100_000;

    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-pack-cache-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void TheSecondStartMapsWhatTheFirstOneKeptAndNeverAnotherModel()
    {
        // As in the cache of the Hugging Face libraries: the files of a model are links.
        string model = Path.Combine(_folder, "model"), blobs = Path.Combine(_folder, "blobs");
        TinyModel.Write(blobs, Rows);
        Directory.CreateDirectory(model);
        foreach (string file in Directory.EnumerateFiles(blobs))
        {
            File.CreateSymbolicLink(Path.Combine(model, Path.GetFileName(file)), file);
        }

        string expected = Generate(model, "off", "off").Output;
        CliResult first = Generate(model, "beside", "off");
        Assert.Equal((0, expected), (first.ExitCode, first.Output));
        Assert.Contains(Kept, first.Errors, StringComparison.Ordinal);
        string packed = Assert.Single(Directory.EnumerateFiles(Path.Combine(model, ".nibble-cache"), "*.packed"));
        Assert.Contains(packed, first.Errors, StringComparison.Ordinal);

        CliResult second = Generate(model, "beside", "off", "--json");
        Assert.DoesNotContain(Kept, second.Errors, StringComparison.Ordinal);
        JsonElement cache = second.Json.GetProperty("pack_cache");
        Assert.Equal(("mapped", new FileInfo(packed).Length), (cache.GetProperty("state").GetString(), cache.GetProperty("bytes").GetInt64()));
        Assert.Equal(expected, $"import os\n{second.Json.GetProperty("results")[0].GetProperty("text").GetString()}\n");

        // Another model of the same size, time and ends.
        string weights = Path.Combine(blobs, "model.safetensors");
        DateTime time = File.GetLastWriteTimeUtc(weights);
        using (FileStream file = new(weights, FileMode.Open, FileAccess.ReadWrite))
        {
            byte[] numbers = new byte[file.Length / 2];
            file.Position = file.Length / 4;
            file.ReadExactly(numbers);
            for (int i = 3; i < numbers.Length; i += 4)
            {
                numbers[i] ^= 0x80;
            }

            file.Position = file.Length / 4;
            file.Write(numbers);
        }

        File.SetLastWriteTimeUtc(weights, time);
        CliResult other = Generate(model, "beside", "off");
        Assert.Contains("belongs to other files", other.Errors, StringComparison.Ordinal);
        Assert.Equal(Generate(model, "off", "beside").Output, other.Output);
    }

    [Fact]
    public void AFolderThatCannotBeWrittenIsSaidAndTheVariableTurnsItOff()
    {
        string model = Path.Combine(_folder, "model"), file = Path.Combine(_folder, "file");
        TinyModel.Write(model, Rows);
        File.WriteAllText(file, string.Empty);
        CliResult refused = Generate(model, Path.Combine(file, "under"), "off");
        Assert.Equal(0, refused.ExitCode);
        Assert.Contains("packed weights are not kept: ", refused.Errors, StringComparison.Ordinal);
        CliResult off = Generate(model, null, "off");
        Assert.Equal((0, refused.Output), (off.ExitCode, off.Output));
        Assert.False(Directory.Exists(Path.Combine(model, ".nibble-cache")));
    }

    private static CliResult Generate(string model, string? option, string variable, params string[] more) => Cli.RunWith(
        new Dictionary<string, string> { ["NIBBLE_PACK_CACHE"] = variable },
        ["generate", model, "--prompt", "import os\n", "--max-tokens", "2", "--device", "cpu", .. option is null ? Array.Empty<string>() : ["--pack-cache", option], .. more]);
}
