using System.Diagnostics;

namespace Nibble.SystemTests;

/// <summary>What shells complete with the scripts of <c>nibble completion</c>: real shells, where they are installed.</summary>
public sealed class CompletionTests : IDisposable
{
    private const int MostSeconds = 60;

    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-completion-").FullName;

    /// <summary>What is on the line, and what the last word becomes. The folder of the command is the working folder and the home, and on the PATH.</summary>
    public static TheoryData<string, string> Lines => new()
    {
        { "nibble quan", "quantize" },
        { "./nibble quan", "quantize" },
        { "~/nibble quan", "quantize" },
        { "nibble quantize m --double", "--double-quant" },
        { "nibble finetune m --schedule lin", "linear" },
        { "nibble quantize m --method gp", "gptq" },
        { "nibble quantize 'a b' --method gp", "gptq" },
        { "nibble eval m --protocol=win", "--protocol=window" },
        { "true | nibble quantize m --method gp", "gptq" },
        { "nibble eval mod", "model.gguf" },
    };

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [SkippableTheory]
    [MemberData(nameof(Lines))]
    public void Bash_completes(string line, string expected)
    {
        Require("bash");
        // In a terminal bash itself cuts the line; here it is told where: at = as well.
        string command = line[(line.LastIndexOf('|') + 1)..].Trim();
        string script = $"""
            source script
            COMP_LINE={Quoted(command)}; COMP_POINT=${"{"}#COMP_LINE{"}"}; COMP_WORDS=({string.Join(' ', Pieces(command).Select(Quoted))}); COMP_CWORD=$((${"{"}#COMP_WORDS[@]{"}"}-1))
            _nibble
            printf '%s\n' "${"{"}COMPREPLY[@]:-$(compgen -f -- "${"{"}COMP_WORDS[COMP_CWORD]{"}"}"){"}"}"
            """;
        // What follows = is a word of its own there.
        Assert.Equal(expected[(expected.IndexOf('=') + 1)..], Run("bash", Script("bash"), "-c", script).Trim());
    }

    [SkippableTheory]
    [MemberData(nameof(Lines))]
    public void Zsh_completes(string line, string expected)
    {
        Require("zsh");
        // Completion needs a terminal, which zsh makes by itself. A key that prints the line is read once the completion is done.
        string script = $$"""
            zmodload zsh/zpty
            zpty t 'cd {{_folder}}; PS1= TERM=dumb zsh -f -i'
            zpty -w t "autoload -Uz compinit; compinit -u -D; source script; unsetopt beep; show() { print -r -- \"<LINE \$BUFFER>\" }; zle -N show; bindkey '^T' show; print REA''DY"
            zpty -r t out '*READY*'
            zpty -w -n t {{Quoted(line)}}$'\t\x14'
            zpty -r t out '*<LINE*>*'
            print -r -- "$out"
            zpty -d t
            """;
        string found = Run("zsh", Script("zsh"), "-f", "-c", script);
        int at = found.LastIndexOf("<LINE ", StringComparison.Ordinal);
        Assert.True(at >= 0, found);
        Assert.Equal(line[..(line.LastIndexOf(' ') + 1)] + expected, found[(at + 6)..found.IndexOf('>', at)].Trim());
    }

    [SkippableTheory]
    [MemberData(nameof(Lines))]
    public void Fish_completes(string line, string expected)
    {
        Require("fish");
        string[] found = Run("fish", Script("fish"), "-N", "-c", $"source script; complete -C {Quoted(line)}").Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(expected, Assert.Single(found).Split('\t')[0]);
    }

    [SkippableTheory]
    [MemberData(nameof(Lines))]
    public void PowerShell_completes(string line, string expected)
    {
        Require("pwsh");
        string text = $"'{line.Replace("'", "''", StringComparison.Ordinal)}'";
        string script = $". ([ScriptBlock]::Create((Get-Content -Raw script))); (TabExpansion2 {text} {text}.Length).CompletionMatches | ForEach-Object CompletionText";
        string found = Run("pwsh", Script("powershell"), "-NoProfile", "-NonInteractive", "-Command", script).Trim();
        Assert.Equal(expected, found.StartsWith("./", StringComparison.Ordinal) ? found[2..] : found);
    }

    private static void Require(string shell) => Skip.If(Find(shell) is null, $"no {shell} on this machine");

    private static string? Find(string shell) =>
        Environment.GetEnvironmentVariable("PATH")!.Split(Path.PathSeparator).Select(folder => Path.Combine(folder, shell)).FirstOrDefault(File.Exists);

    private static string Quoted(string text) => "'" + text.Replace("'", "'\\''", StringComparison.Ordinal) + "'";

    private static IEnumerable<string> Pieces(string line)
    {
        foreach (string word in line.Replace("'a b'", "'a\u00A0b'", StringComparison.Ordinal).Split(' '))
        {
            string[] sides = word.Split('=', 2);
            foreach (string piece in sides.Length == 1 ? sides : [sides[0], "=", sides[1]])
            {
                yield return piece.Replace('\u00A0', ' ');
            }
        }
    }

    private static string Script(string shell) => Cli.Run("completion", shell).Output;

    private string Run(string shell, string completion, params string[] arguments)
    {
        string command = Path.Combine(_folder, "nibble");
        File.WriteAllText(command, $"#!/bin/sh\nexec dotnet '{Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll")}' \"$@\"\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(command, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        }

        File.WriteAllText(Path.Combine(_folder, "script"), completion);
        File.WriteAllText(Path.Combine(_folder, "model.gguf"), string.Empty);
        ProcessStartInfo start = new(Find(shell)!, arguments) { WorkingDirectory = _folder, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["HOME"] = _folder;
        start.Environment["PATH"] = _folder + Path.PathSeparator + start.Environment["PATH"];
        start.Environment["DOTNET_CLI_HOME"] = _folder;
        start.Environment["POWERSHELL_TELEMETRY_OPTOUT"] = "1";
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync(), errors = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(TimeSpan.FromSeconds(MostSeconds)))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{shell} did not end: {errors.Result}");
        }

        return output.Result.Length > 0 ? output.Result : errors.Result;
    }
}
