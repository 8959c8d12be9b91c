using System.Text.Json;
using Nibble.Evaluation;
using Nibble.IO;

namespace Nibble.Runs.Studies;

/// <summary>
/// The quantized folder of a cell whose method looks at the inputs of layers: made in a process of its own, and kept until the study is
/// complete, so that a study that was stopped does not calibrate twice. Cells without such a method need none.
/// </summary>
internal sealed class CellPreparation(CellProcess process, StudyCell cell, PreparedModel model, string work)
{
    private readonly string _folder = Path.Combine(work, "quantized-" + cell.Key);

    private bool IsNeeded => cell.Preparation.Count > 0;

    // Written after the folder: without it, the folder is made again.
    private string Record => _folder + ".json";

    /// <summary>The arguments that measure the cell, with the quantized folder in the place of the model.</summary>
    public IEnumerable<string> Arguments => Of(cell.Arguments, IsNeeded ? _folder : model.Path).Concat(model.Adapter is null || cell.Model.Adapter is not null ? [] : [$"--adapter={model.Adapter}"]);

    /// <summary>The same work on a command line.</summary>
    public string Command
    {
        get
        {
            string source = cell.Model.Steps.Count == 0 ? model.Path : $"OUT{cell.Model.Steps.Count}";
            string measured = IsNeeded ? "OUT" : source;
            string quantize = IsNeeded ? $"nibble {Line([.. Of(cell.Preparation, source), "-o", "OUT"])} && " : string.Empty;
            return $"{model.Command}{quantize}nibble {Line(Of(cell.Arguments, measured))}";
        }
    }

    /// <summary>Makes the folder unless it is there already; returns what went wrong, or null.</summary>
    public CellProcess.Outcome? Run(CancellationToken cancellation)
    {
        if (!IsNeeded || (File.Exists(Record) && Directory.Exists(_folder)))
        {
            return null;
        }

        Directory.CreateDirectory(work);
        CellProcess.Outcome outcome = process.Run([.. Of(cell.Preparation, model.Path), $"--output={_folder}", "--force", "--json"], cancellation);
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
        result = result with { Training = model.Training };
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

    /// <summary>Arguments of a verb with another model.</summary>
    private static IEnumerable<string> Of(IEnumerable<string> arguments, string path) => arguments.Select((argument, i) => i == 1 ? path : argument);

    /// <summary>Arguments as one line of a shell.</summary>
    internal static string Line(IEnumerable<string> arguments) => string.Join(' ', arguments.Select(Quote));

    private static string Quote(string argument) =>
        argument.Length > 0 && argument.All(unit => char.IsAsciiLetterOrDigit(unit) || "-_=./,:+@%".Contains(unit)) ? argument : $"'{argument.Replace("'", @"'\''")}'";
}
