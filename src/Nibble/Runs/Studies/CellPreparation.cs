using System.Text.Json;
using Nibble.Evaluation;
using Nibble.IO;

namespace Nibble.Runs.Studies;

/// <summary>
/// The quantized folder of a cell whose method looks at the inputs of layers: made in a process of its own, and kept until the study is
/// complete, so that a study that was stopped does not calibrate twice. Cells without such a method need none.
/// </summary>
internal sealed class CellPreparation(CellProcess process, StudyCell cell, string work)
{
    private readonly string _folder = Path.Combine(work, "quantized-" + cell.Key);

    private bool IsNeeded => cell.Preparation.Count > 0;

    // Written after the folder: without it, the folder is made again.
    private string Record => _folder + ".json";

    /// <summary>The arguments that measure the cell, with the quantized folder in the place of the model.</summary>
    public IEnumerable<string> Arguments => IsNeeded ? cell.Arguments.Select((argument, i) => i == 1 ? _folder : argument) : cell.Arguments;

    /// <summary>The same work on a command line.</summary>
    public string Command => IsNeeded
        ? $"nibble {Line([.. cell.Preparation, "-o", "OUT"])} && nibble {Line(cell.Arguments.Select((argument, i) => i == 1 ? "OUT" : argument))}"
        : "nibble " + Line(cell.Arguments);

    /// <summary>Makes the folder unless it is there already; returns what went wrong, or null.</summary>
    public CellProcess.Outcome? Run(CancellationToken cancellation)
    {
        if (!IsNeeded || (File.Exists(Record) && Directory.Exists(_folder)))
        {
            return null;
        }

        Directory.CreateDirectory(work);
        CellProcess.Outcome outcome = process.Run([.. cell.Preparation, $"--output={_folder}", "--force", "--json"], cancellation);
        if (outcome.ExitCode != 0)
        {
            return outcome;
        }

        AtomicFile.WriteAllText(Record, outcome.Output);
        return null;
    }

    /// <summary>The result with the time that the quantization took, calibration included.</summary>
    public ResultDocument Complete(ResultDocument result)
    {
        if (!IsNeeded)
        {
            return result;
        }

        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(Record));
        double seconds = document.RootElement.GetProperty("metrics").GetProperty("seconds").GetDouble();
        if (cell.Method.Budget is { } budget)
        {
            // The folder's record names the method of most of its matrices; the cell is about the plan.
            result = result with { Method = StudyMethod.BudgetName, Bits = null, Settings = new Dictionary<string, object> { ["budget"] = budget.ToString() } };
        }

        return result with { Metrics = new Dictionary<string, double>(result.Metrics) { ["quantization_seconds"] = seconds } };
    }

    private static string Line(IEnumerable<string> arguments) =>
        string.Join(' ', arguments.Select(argument => argument.Any(char.IsWhiteSpace) ? $"'{argument}'" : argument));
}
