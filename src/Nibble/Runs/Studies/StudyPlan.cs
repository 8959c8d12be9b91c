using Nibble.Evaluation.Classification;
using Nibble.Evaluation.Texts;

namespace Nibble.Runs.Studies;

/// <summary>The cells of a study in the order in which they run: for each model its baseline first.</summary>
/// <param name="Study">The study.</param>
/// <param name="Cells">Its cells.</param>
public sealed record StudyPlan(Study Study, IReadOnlyList<StudyCell> Cells)
{
    /// <summary>Seconds that all cells will roughly take.</summary>
    public double Seconds => Cells.Sum(cell => cell.Estimate.Seconds);

    /// <summary>Plans a study: reads models' configs and the text, so that what is missing is found before anything runs.</summary>
    public static StudyPlan Of(Study study)
    {
        // The data of a classification are no text of their own.
        EvaluationText? text = study.Tasks.Tasks.Contains("perplexity") || !study.Tasks.Tasks.Contains("classification") ? TextSource.Load(study.Tasks.Data) : null;
        string data = text?.Fingerprint ?? LabeledSource.Load(study.Tasks.Data, study.Tasks.Split).Fingerprint;
        List<StudyCell> cells = [];
        foreach (StudyModel model in study.Models)
        {
            string fingerprint = ModelFingerprint.Of(model.Path) + (model.Adapter is null ? string.Empty : ModelFingerprint.Of(model.Adapter));
            string[] steps = [.. model.Steps.SelectMany(step => new[] { step.Verb }.Concat(step.Options).Concat(step.Data.Select(ModelFingerprint.OfData)))];
            IReadOnlyList<string>? baseline = study.Methods.FirstOrDefault(method => method.IsBaseline && model.Takes(method)) is { } first ? StudyCell.ArgumentsFor(study, model, first) : null;
            foreach (StudyMethod method in study.Methods.Where(model.Takes).OrderByDescending(method => method.IsBaseline))
            {
                IReadOnlyList<string> arguments = StudyCell.ArgumentsFor(study, model, method);
                IReadOnlyList<string> preparation = StudyCell.PreparationFor(study, model, method);
                string key = StudyCell.KeyOf([.. steps, .. preparation, .. arguments], method.IsBaseline ? null : baseline, fingerprint, data);
                cells.Add(new StudyCell(model, method, arguments, key, CellEstimate.Of(model, method, study, text)) { Preparation = preparation });
            }
        }

        return new StudyPlan(study, cells);
    }

    /// <summary>The baseline of a cell's model; null where the study has none, or where the cell is the baseline itself.</summary>
    public StudyCell? BaselineOf(StudyCell cell) =>
        cell.Method.IsBaseline ? null : Cells.FirstOrDefault(other => other.Method.IsBaseline && other.Model == cell.Model);
}
