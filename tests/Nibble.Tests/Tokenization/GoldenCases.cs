using System.Globalization;

namespace Nibble.Tests.Tokenization;

/// <summary>llama.cpp's golden vectors: inputs separated by a line of their own, ids one line a case.</summary>
internal static class GoldenCases
{
    public const string Folder = "data/tokenizers/golden";

    private const string Separator = "\n__ggml_vocab_test__\n";

    /// <summary>The cases of a vocabulary.</summary>
    public static (string Text, int[] Ids)[] Read(string vocabulary)
    {
        string? folder = TestData.Shared(Folder);
        Skip.If(folder == null, $"shared/{Folder} is not beside the repository");
        string file = Path.Combine(folder!, $"ggml-vocab-{vocabulary}.gguf");
        string[] texts = File.ReadAllText(file + ".inp").Split(Separator)[..^1];
        int[][] ids = File.ReadAllText(file + ".out").Split('\n')[..texts.Length].Select(Numbers).ToArray();
        return texts.Zip(ids).ToArray();
    }

    /// <summary>A file or folder of shared data; the test is skipped without it.</summary>
    public static string Need(string relative)
    {
        string? path = TestData.Shared(relative);
        Skip.If(path == null, $"shared/{relative} is not beside the repository");
        return path!;
    }

    private static int[] Numbers(string line) =>
        line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(number => int.Parse(number, CultureInfo.InvariantCulture)).ToArray();
}
