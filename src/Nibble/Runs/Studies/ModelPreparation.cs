using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Runs.Studies;

/// <summary>A model after its steps.</summary>
/// <param name="Path">Its folder.</param>
/// <param name="Adapter">The adapter on it, or null.</param>
/// <param name="Training">What its trainings did; null without any.</param>
/// <param name="Command">The steps on a command line, with what joins them to the next command; empty without steps.</param>
internal sealed record PreparedModel(string Path, string? Adapter, IReadOnlyList<TrainingFacts>? Training, string Command);

/// <summary>
/// Runs the steps of a study's model, each in a process of its own, into the study's work folder. A finished step has a record
/// beside its folder and is not repeated when a stopped study goes on.
/// </summary>
internal sealed class ModelPreparation(CellProcess process, StudyModel model, string work)
{
    private PreparedModel? _done;

    /// <summary>Does what is not done yet; <paramref name="failure"/> is what went wrong, or null.</summary>
    public PreparedModel? Run(CancellationToken cancellation, out CellProcess.Outcome? failure)
    {
        failure = null;
        if (_done is not null)
        {
            return _done;
        }

        PreparedModel state = new(model.Path, model.Adapter, null, string.Empty);
        List<string> before = [model.Path, ModelFingerprint.Of(model.Path)];
        for (int i = 0; i < model.Steps.Count; i++)
        {
            StudyStep step = model.Steps[i];
            string[] arguments = [step.Verb, state.Path, .. step.Options, .. state.Adapter is null ? Array.Empty<string>() : [$"--adapter={state.Adapter}"]];
            before.AddRange([step.Verb, .. step.Options, .. step.Data.Select(ModelFingerprint.OfData)]);
            string folder = Path.Combine(work, "prepared-" + StudyCell.KeyOf(before, null, string.Empty, string.Empty));
            failure = Run(arguments, folder, cancellation);
            if (failure is not null)
            {
                return null;
            }

            state = After(step, state, folder, i + 1);
        }

        return _done = state;
    }

    private CellProcess.Outcome? Run(string[] arguments, string folder, CancellationToken cancellation)
    {
        if (File.Exists(RecordOf(folder)) && Directory.Exists(folder))
        {
            return null;
        }

        Directory.CreateDirectory(work);
        CellProcess.Outcome outcome = process.Run([.. arguments, $"--output={folder}", "--force", "--json"], cancellation);
        if (outcome.ExitCode != 0)
        {
            return outcome;
        }

        AtomicFile.WriteAllText(RecordOf(folder), outcome.Output);
        return null;
    }

    private static PreparedModel After(StudyStep step, PreparedModel before, string folder, int number)
    {
        bool adapter = File.Exists(Path.Combine(folder, PeftConfig.FileName));
        IReadOnlyList<TrainingFacts>? training = before.Training;
        if (step.Verb == "finetune")
        {
            training = [.. training ?? [], DocumentJson.Read<TrainingFacts>(File.ReadAllText(RecordOf(folder)), ResultDocument.JsonOptions)!];
        }

        string source = number == 1 ? before.Path : $"OUT{number - 1}";
        string command = $"{before.Command}nibble {CellPreparation.Line([step.Verb, source, .. step.Options, "-o", $"OUT{number}"])} && ";
        return new PreparedModel(adapter ? before.Path : folder, adapter ? folder : null, training, command);
    }

    private static string RecordOf(string folder) => folder + ".json";
}
