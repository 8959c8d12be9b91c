using System.CommandLine;

namespace Nibble.Cli;

/// <summary><c>nibble completion</c>: prints what makes a shell complete commands, options and their values.</summary>
internal sealed class CompletionVerb : IVerb
{
    // Each asks the command itself ([suggest:POSITION] LINE, of System.CommandLine) and completes files where it knows nothing. The
    // command that stands on the line is asked, so that ./nibble in a clone works as an installed tool does.
    private const string Bash = """
        _nibble() {
          local word="${COMP_WORDS[COMP_CWORD]}" line="${COMP_LINE:0:COMP_POINT}" option="" found
          line="${line#"${COMP_WORDS[0]}"}"; line="${line# }"
          # bash ends words at =, the command does not.
          [[ "$line" =~ (--[a-z-]+=)[^\ ]*$ ]] && option="${BASH_REMATCH[1]}" && word="${line##*"$option"}"
          local IFS=$'\n'
          found="$("${COMP_WORDS[0]/#\~/$HOME}" "[suggest:${#line}]" "$line" 2>/dev/null)"
          COMPREPLY=($(compgen -W "${found//"$option"/}" -- "$word"))
        }
        complete -o default -F _nibble nibble
        """;

    private const string Zsh = """
        _nibble() {
          local line="${(j: :)words[2,CURRENT-1]}"; line="${line:+$line }$PREFIX"
          local -a found; found=("${(@f)$("${words[1]/#\~/$HOME}" "[suggest:${#line}]" "$line" 2>/dev/null)}")
          [[ -n "$found" ]] && compadd -a found || { compset -P '*='; _files }
        }
        compdef _nibble nibble
        """;

    private const string Fish = """
        function __nibble_complete
          set -l name (commandline -poc)[1]
          set -l line (string sub -s (math (string length -- $name) + 2) -- (string trim -l -- (commandline -cp)))
          set -l command (string replace -r '^~' $HOME -- $name)
          $command "[suggest:"(string length -- "$line")"]" "$line" 2>/dev/null
        end
        complete -c nibble -a '(__nibble_complete)'
        """;

    private const string PowerShell = """
        Register-ArgumentCompleter -Native -CommandName nibble -ScriptBlock {
          param($word, $ast, $position)
          $name = $ast.CommandElements[0]
          $length = $position - $ast.Extent.StartOffset
          $line = $ast.ToString().PadRight($length).Substring(0, $length).Substring($name.Extent.Text.Length).TrimStart()
          & $name.Value "[suggest:$($line.Length)]" $line 2>$null | Where-Object { $_ -like "$word*" } |
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
