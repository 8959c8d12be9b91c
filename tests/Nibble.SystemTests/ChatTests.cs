using Nibble.IO;

namespace Nibble.SystemTests;

/// <summary>nibble chat with a piped conversation, on an embedded model that is given a template.</summary>
public sealed class ChatTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-chat-").FullName;

    public ChatTests()
    {
        foreach (string file in Directory.EnumerateFiles(AssetFolder.Find("assets/nibble-llama-4m")))
        {
            File.Copy(file, Path.Combine(_folder, Path.GetFileName(file)));
        }
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void EachLineOfStdinIsAnsweredAndTheConversationGoesOn()
    {
        Template("{% for m in messages %}# {{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}# assistant:{% endif %}");
        CliResult result = Cli.RunInput("def add(a, b):\n\n/reset\ndef add(a, b):\n/exit\nnever read\n", "chat", _folder, "--system", "Python only", "--max-tokens", "5", "--temperature", "0");
        Assert.Equal(0, result.ExitCode);
        string[] answers = result.Output.Split('\n');
        Assert.Contains("(a new conversation)", result.Errors, StringComparison.Ordinal);
        string text = result.Output.TrimEnd('\n');
        // Greedy answers to the same question from the same beginning are equal: what stands before /reset is forgotten.
        Assert.Equal(1, text.Length % 2);
        Assert.Equal(text[..(text.Length / 2)], text[((text.Length / 2) + 1)..]);
        Assert.True(answers.Length >= 2);
    }

    [Fact]
    public void TheTemplateSeesTheSystemMessageAndMayRefuse()
    {
        Template("{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ messages[-1].content }}");
        CliResult result = Cli.RunInput("hello\n", "chat", _folder, "--system", "x");
        Assert.Equal((3, string.Empty), (result.ExitCode, result.Output));
        Assert.Contains("no system role", result.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void AModelWithoutATemplateSaysSo()
    {
        CliResult result = Cli.RunInput("hello\n", "chat", _folder);
        Assert.Equal((4, string.Empty), (result.ExitCode, result.Output));
        Assert.Contains("has no chat template", result.Errors, StringComparison.Ordinal);
        Assert.Contains("nibble generate", result.Errors, StringComparison.Ordinal);
        string file = Path.Combine(_folder, "mine.jinja");
        File.WriteAllText(file, "{{ messages[0].content }}");
        Assert.Equal(0, Cli.RunInput("import os\n", "chat", _folder, "--chat-template", file, "--max-tokens", "2", "--temperature", "0").ExitCode);
    }

    [Fact]
    public void AConversationLongerThanTheContextEndsWithAMessage()
    {
        Template("{{ messages[0].content * 200 }}");
        CliResult result = Cli.RunInput("some words that are many tokens in all\n", "chat", _folder);
        Assert.Equal(3, result.ExitCode);
        Assert.Contains("/reset", result.Errors, StringComparison.Ordinal);
    }

    private void Template(string source) => File.WriteAllText(Path.Combine(_folder, "chat_template.jinja"), source);
}
