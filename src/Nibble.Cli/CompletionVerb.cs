using System.CommandLine;

namespace Nibble.Cli;

/// <summary><c>nibble completion</c>: prints what makes a shell complete commands, options and their values.</summary>
internal sealed class CompletionVerb : IVerb
{
    // Each asks the command itself ([suggest:POSITION] LINE, of System.CommandLine) and completes files where it knows nothing. The
    // command that stands on the line is asked, so that ./nibble in a clone works as an installed tool does.
    private const string Bash = """
        _nibble() {
          local word="${COMP_WORDS[COMP_CWORD]}" line="${COMP_LINE:0:COMP_POINT}"
          line="${line#"${COMP_WORDS[0]}"}"; line="${line# }"
          local IFS=$'\n'
          COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]/#\~/$HOME}" "[suggest:${#line}]" "$line" 2>/dev/null)" -- "$word"))
        }
        complete -o default -F _nibble nibble
        """;

    private const string Zsh = """
        _nibble() {
          local line="${LBUFFER#"$words[1]"}"; line="${line# }"
          local -a found; found=("${(@f)$("$words[1]" "[suggest:${#line}]" "$line" 2>/dev/null)}")
          [[ -n "$found" ]] && compadd -a found || _files
        }
        compdef _nibble nibble
        """;

    private const string Fish = """
        function __nibble_complete
          set -l command (commandline -poc)[1]
          set -l line (string sub -s (math (string length -- $command) + 2) -- (commandline -cp))
          $command "[suggest:"(string length -- "$line")"]" "$line" 2>/dev/null
        end
        complete -c nibble -a '(__nibble_complete)'
        """;

    private const string PowerShell = """
        Register-ArgumentCompleter -Native -CommandName nibble -ScriptBlock {
          param($word, $ast, $position)
          $command = $ast.CommandElements[0].Value
          $line = $ast.ToString()
          $line = $line.Substring(0, [Math]::Min($position - $ast.Extent.StartOffset, $line.Length)).Substring($command.Length).TrimStart()
          & $command "[suggest:$($line.Length)]" $line 2>$null | Where-Object { $_ -like "$word*" } |
            ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
        }
        """;

    public Command Create(CancellationToken cancellation)
    {
        Argument<string> shell = new("shell") { Description = "bash, zsh, fish or powershell.", HelpName = "shell" };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish", "powershell");
        Command command = new("completion", "Print a script that completes commands and options in your shell.") { shell };
        command.SetAction(parsed => Console.Out.WriteLine(parsed.GetRequiredValue(shell) switch { "bash" => Bash, "zsh" => Zsh, "fish" => Fish, _ => PowerShell }));
        return command;
    }
}
