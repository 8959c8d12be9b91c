using System.CommandLine;
using Nibble.IO;
using Nibble.Runs.Studies;

namespace Nibble.Cli;

/// <summary><c>nibble demo</c>: the embedded model at 16 bits and with every low-bit method, compared.</summary>
internal sealed class DemoVerb : IVerb
{
    private readonly Option<string?> _output = CommonOptions.Output("Folder for results and report (default: nibble-demo-1, -2 … in the working folder).");
    private readonly Option<bool> _force = new("--force") { Description = "Measure every cell of an earlier run in that folder again." };
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("demo", "Compare the embedded model at 16 bits and with every low-bit method; takes two to three minutes.") { _output, _force, _json };
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private int Run(ParseResult parsed, CancellationToken cancellation)
    {
        StudyPlan plan = StudyPlan.Of(StudyFile.Read(AssetFolder.Find(Path.Combine("studies", "demo.yaml"))));
        string output = parsed.GetValue(_output) ?? StudyConsole.FreeFolder("nibble-demo");
        Console.Error.WriteLine($"{plan.Cells.Count} cells into {Path.GetFullPath(output)}");
        StudyResults results = StudyConsole.Run(plan, output, parsed.GetValue(_force), cancellation);
        StudyConsole.ShowTable(results);
        Console.Error.WriteLine($"report: {Path.GetFullPath(Path.Combine(output, "report.html"))}");
        Console.Error.WriteLine("next, with a model of your own (a Hugging Face folder):");
        Console.Error.WriteLine("  nibble quantize MODEL --method nf4 --double-quant -o MODEL-nf4");
        Console.Error.WriteLine("  nibble eval MODEL-nf4 --tasks perplexity,latency --data YOUR.txt");
        if (parsed.GetValue(_json))
        {
            Output.Json(results);
        }

        return results.Failures.Count == 0 ? 0 : (int)ErrorKind.Failed;
    }
}
