using Nibble.Generation;
using Nibble.Models;
using Nibble.Quantization;

namespace Nibble.Tests;

/// <summary>Tests that change the console or the working folder of the whole process: they run alone.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public class ProcessState
{
    public const string Name = "process state";
}

/// <summary>The example of README and docs/library.md, run as it stands there.</summary>
[Collection(ProcessState.Name)]
public class LibraryExampleTests
{
    private const string Begin = "        // example begins", End = "        // example ends";

    [Fact]
    public void TheExampleRuns()
    {
        StringWriter output = new();
        (TextWriter console, string folder) = (Console.Out, Environment.CurrentDirectory);
        try
        {
            Console.SetOut(output);
            Environment.CurrentDirectory = TestData.Repository;
            Example();
        }
        finally
        {
            Console.SetOut(console);
            Environment.CurrentDirectory = folder;
        }

        string[] lines = output.ToString().TrimEnd().Split('\n');
        Assert.StartsWith("self", lines[0], StringComparison.Ordinal);
        // F32 gives 9.3 on the whole text.
        Assert.Matches("perplexity (9|1[0-4])[.][0-9]{3}$", lines[^1]);
    }

    [Fact]
    public void TheDocumentationShowsTheSameCode()
    {
        string[] source = File.ReadAllLines(Path.Combine(TestData.Repository, "tests", "Nibble.Tests", "LibraryExampleTests.cs"));
        string[] code = [.. source.SkipWhile(line => line != Begin).Skip(1).TakeWhile(line => line != End).Select(line => line.Length > 8 ? line[8..] : line)];
        Assert.True(code.Length >= 6);
        foreach (string page in new[] { "README.md", "docs/library.md" })
        {
            string text = File.ReadAllText(Path.Combine(TestData.Repository, page));
            // A page that shows the library at all shows this code.
            Assert.True(!text.Contains("```csharp", StringComparison.Ordinal) || text.Contains(string.Join('\n', code), StringComparison.Ordinal), page);
        }
    }

    private static void Example()
    {
        // example begins
        PlanRequest nf4 = new(new QuantizationSettings { Method = "nf4" });
        using LoadedModel model = LoadedModel.Load("assets/nibble-gpt2-10m", new LoadOptions { Quantization = nf4 });
        foreach (string piece in model.Generate("def add(", new GenerationOptions { MaxTokens = 64 }))
        {
            Console.Write(piece);
        }

        Console.WriteLine($"perplexity {model.Perplexity(File.ReadAllText("assets/text/test.txt")[..20_000]):F3}");
        // example ends
    }
}
