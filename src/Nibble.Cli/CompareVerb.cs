using System.CommandLine;
using Nibble.IO;
using Nibble.Runs.Studies;

namespace Nibble.Cli;

/// <summary><c>nibble compare</c>: runs a study and writes its report.</summary>
internal sealed class CompareVerb : IVerb
{
    private readonly Argument<string> _study = new("study") { Description = "A study (YAML): models × methods × tasks. See docs/compare.md." };
    private readonly Option<string?> _output = CommonOptions.Output("Folder for results and report; a study in it goes on where it stopped.");
    private readonly Option<bool> _force = new("--force") { Description = "Measure every cell of an earlier run in that folder again." };
    private readonly Option<bool> _dryRun = CommonOptions.DryRun();
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("compare", "Compare models and methods: a study in, tables and one HTML report out.") { _study, _output, _force, _dryRun, _json };
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private int Run(ParseResult parsed, CancellationToken cancellation)
    {
        StudyPlan plan = StudyPlan.Of(StudyFile.Read(parsed.GetRequiredValue(_study)));
        bool json = parsed.GetValue(_json);
        StudyConsole.ShowPlan(plan);
        if (parsed.GetValue(_dryRun))
        {
            if (json)
            {
                Output.Json(new { Schema = 1, Study = plan.Study.Name, Seconds = plan.Seconds, Plan = plan.Cells.Select(cell => new { Model = cell.Model.Name, cell.Method.Label, cell.Method.Method, cell.Key, cell.Arguments, cell.Estimate }) });
            }

            return 0;
        }

        string output = parsed.GetValue(_output) ?? throw new NibbleException(ErrorKind.Usage, "--output is missing", "a study writes a folder of results", "add -o FOLDER, or --dry-run to see the plan only");
        StudyResults results = StudyConsole.Run(plan, output, parsed.GetValue(_force), cancellation);
        StudyConsole.ShowTable(results);
        Console.Error.WriteLine($"report: {Path.GetFullPath(Path.Combine(output, "report.html"))}");
        if (json)
        {
            Output.Json(results);
        }

        return results.Failures.Count == 0 ? 0 : (int)ErrorKind.Failed;
    }
}
