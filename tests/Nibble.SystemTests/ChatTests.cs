using System.Diagnostics;
using System.Text;
using Nibble.IO;
using Xunit;

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

    [SkippableFact]
    public void AtATerminalCtrlCEndsTheAnswerAndNotTheConversation()
    {
        Interruptions.SkipIfIgnored();
        Skip.If(!File.Exists("/usr/bin/script"), "no script(1) on this machine, which makes terminals");
        Template("{{ messages[-1].content }}");
        // exec: a shell that waited (dash does) would take the Ctrl-C too, and end with its code.
        string command = $"exec dotnet {Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll")} chat {_folder} --max-tokens 500 --temperature 0";
        ProcessStartInfo start = new("/usr/bin/script", ["-qec", command, "/dev/null"]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        using Process script = Process.Start(start)!;
        // Whatever goes wrong, reading ends.
        using Timer end = new(_ => script.Kill(entireProcessTree: true), null, TimeSpan.FromMinutes(3), Timeout.InfiniteTimeSpan);
        StringBuilder seen = new();
        Await(script, seen, "> ");
        script.StandardInput.Write("def first(a, b):\n");
        // The echo of the line, then the beginning of the answer.
        Await(script, seen, "\n");
        Await(script, seen, "    ");
        script.StandardInput.Write('\u0003');
        Await(script, seen, "(stopped: ");
        Await(script, seen, "> ");
        script.StandardInput.Write("/nothing\n");
        Await(script, seen, "is no command");
        Await(script, seen, "> ");
        script.StandardInput.Write("/exit\n");
        Assert.True(script.WaitForExit(60_000), seen.ToString());
        Assert.Equal(0, script.ExitCode);
    }

    [Fact]
    public void AConversationLongerThanTheContextEndsWithAMessage()
    {
        Template("{{ messages[0].content * 200 }}");
        CliResult result = Cli.RunInput("some words that are many tokens in all\n", "chat", _folder);
        Assert.Equal(3, result.ExitCode);
        Assert.Contains("/reset", result.Errors, StringComparison.Ordinal);
    }

    // Reads what the terminal shows until a text appears after all that was read before.
    private static void Await(Process script, StringBuilder seen, string text)
    {
        script.StandardInput.Flush();
        int from = seen.Length;
        char[] one = new char[1];
        while (!seen.ToString(from, seen.Length - from).Contains(text, StringComparison.Ordinal))
        {
            Assert.True(script.StandardOutput.Read(one) == 1, $"waited for '{text}' after: {seen}");
            seen.Append(one[0]);
        }
    }

    private void Template(string source) => File.WriteAllText(Path.Combine(_folder, "chat_template.jinja"), source);
}
