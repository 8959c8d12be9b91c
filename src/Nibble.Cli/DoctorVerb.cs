using System.CommandLine;
using Nibble.Backends;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble doctor</c>: what works here, what does not, and what to do about it.</summary>
internal sealed class DoctorVerb : IVerb
{
    public Command Create(CancellationToken cancellation)
    {
        Option<bool> json = CommonOptions.Json();
        Command command = new("doctor", "Check this machine: what works, what is missing, what to do about it.") { json };
        command.SetAction(parsed =>
        {
            IReadOnlyList<Finding> findings = Diagnosis.Run();
            if (parsed.GetValue(json))
            {
                Output.Json(new { Schema = 1, Findings = findings.Select(finding => new { finding.Check, State = finding.State.ToString().ToLowerInvariant(), finding.Found, finding.Remedy }) });
            }
            else
            {
                Render(findings);
            }

            return findings.Any(finding => finding.State == FindingState.Broken) ? 1 : 0;
        });
        return command;
    }

    private static void Render(IReadOnlyList<Finding> findings)
    {
        Table table = new Table().AddColumns("check", "state", "found", "what to do");
        foreach (Finding finding in findings)
        {
            table.AddRow(
                Markup.Escape(finding.Check),
                finding.State.ToString().ToLowerInvariant(),
                Markup.Escape(finding.Found),
                Markup.Escape(finding.Remedy ?? string.Empty));
        }

        Output.Human.Write(table);
    }
}
