using System.Text.Json;
using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Runs.Reports;

namespace Nibble.Runs.Studies;

/// <summary>Is told how a study goes on.</summary>
public interface IStudyObserver
{
    /// <summary>A cell starts.</summary>
    void Started(StudyCell cell, int number, int cells);

    /// <summary>A cell has its result; <paramref name="reused"/> if an earlier run had measured it.</summary>
    void Finished(StudyCell cell, ResultDocument result, bool reused);

    /// <summary>A cell failed; the others go on.</summary>
    void Failed(StudyCell cell, CellFailure failure);
}

/// <summary>
/// Runs the cells of a study one by one, each in its own process, into one folder. A finished cell is a file named by its key;
/// a study that was stopped, even by kill -9, goes on where it was when it is started again.
/// </summary>
public sealed class StudyRunner
{
    private const string CellsFolder = "cells";
    private const string WorkFolder = "work";
    private const string LockFile = ".lock";
    private readonly StudyPlan _plan;
    private readonly string _output;
    private readonly CellProcess _process;
    private readonly Dictionary<StudyModel, ModelPreparation> _models;

    /// <summary>Prepares to run <paramref name="plan"/> into <paramref name="output"/>.</summary>
    public StudyRunner(StudyPlan plan, string output, SelfCommand self)
    {
        (_plan, _output) = (plan, Path.GetFullPath(output));
        _process = new CellProcess(self);
        _models = plan.Study.Models.ToDictionary(model => model, model => new ModelPreparation(_process, model, Path.Combine(_output, WorkFolder)));
    }

    /// <summary>Refuses an output folder that holds something else than a study; <paramref name="force"/> clears an earlier study.</summary>
    public void Prepare(bool force)
    {
        bool used = Directory.Exists(_output) && Directory.EnumerateFileSystemEntries(_output).Any();
        if (File.Exists(_output) || (used && !Directory.Exists(Path.Combine(_output, CellsFolder))))
        {
            Throw.Usage($"output {_output} exists and holds no study", "nothing is overwritten without being asked to", "choose another output");
        }

        AtomicFile.Attempt(_output, 0, () =>
        {
            foreach (string folder in new[] { CellsFolder, WorkFolder }.Select(name => Path.Combine(_output, name)))
            {
                if (force && Directory.Exists(folder))
                {
                    Directory.Delete(folder, recursive: true);
                }
            }

            Directory.CreateDirectory(Path.Combine(_output, CellsFolder));
        });
    }

    /// <summary>Runs what is not finished yet, and writes results and reports.</summary>
    public StudyResults Run(IStudyObserver observer, CancellationToken cancellation = default)
    {
        using FileStream held = Hold();
        List<ResultDocument> results = [];
        List<CellFailure> failures = [];
        try
        {
            for (int i = 0; i < _plan.Cells.Count; i++)
            {
                cancellation.ThrowIfCancellationRequested();
                RunCell(_plan.Cells[i], i + 1, observer, results, failures, cancellation);
            }
        }
        finally
        {
            // Also after Ctrl-C: what is measured can be looked at.
            ReportWriter.Write(_output, StudyResults.Of(_plan, results, failures));
        }

        if (failures.Count == 0 && Directory.Exists(Path.Combine(_output, WorkFolder)))
        {
            // The baseline's logits are large, and nobody needs them any more.
            Directory.Delete(Path.Combine(_output, WorkFolder), recursive: true);
        }

        return StudyResults.Of(_plan, results, failures);
    }

    private void RunCell(StudyCell cell, int number, IStudyObserver observer, List<ResultDocument> results, List<CellFailure> failures, CancellationToken cancellation)
    {
        if (Finished(cell) is { } known && !MustRunAgain(cell))
        {
            results.Add(known);
            observer.Finished(cell, known, reused: true);
            return;
        }

        observer.Started(cell, number, _plan.Cells.Count);
        StudyCell? baseline = _plan.BaselineOf(cell);
        PreparedModel? model = _models[cell.Model].Run(cancellation, out CellProcess.Outcome? outcome);
        CellPreparation? preparation = model is null ? null : new CellPreparation(_process, cell, model, Path.Combine(_output, WorkFolder));
        outcome ??= preparation!.Run(cancellation) ?? _process.Run([.. preparation.Arguments, .. BaselineArguments(cell, baseline), "--json"], cancellation);
        if (outcome.ExitCode != 0)
        {
            CellFailure failure = CellFailure.Of(cell, outcome.ExitCode, outcome.Errors);
            failures.Add(failure);
            observer.Failed(cell, failure);
            return;
        }

        ResultDocument result = DocumentJson.Read<ResultDocument>(outcome.Output, ResultDocument.JsonOptions)! with
        {
            Model = cell.Model.Name,
            Label = cell.Method.Label,
            Key = cell.Key,
            Baseline = cell.Method.IsBaseline ? true : null,
            Command = preparation!.Command,
        };
        result = preparation.Complete(result);
        AtomicFile.WriteAllText(CellFile(cell), DocumentJson.Text(result, ResultDocument.JsonOptions));
        results.Add(result);
        observer.Finished(cell, result, reused: false);
    }

    // A finished baseline whose logits are gone has to run again if another cell still needs them.
    private bool MustRunAgain(StudyCell cell) =>
        cell.Method.IsBaseline && ComparesCells && !Directory.Exists(BaselineFolder(cell))
        && _plan.Cells.Any(other => _plan.BaselineOf(other) == cell && Finished(other) is null);

    private IEnumerable<string> BaselineArguments(StudyCell cell, StudyCell? baseline)
    {
        if (ComparesCells && cell.Method.IsBaseline && _plan.Cells.Any(other => _plan.BaselineOf(other) == cell))
        {
            Directory.CreateDirectory(Path.Combine(_output, WorkFolder));
            yield return $"--save-baseline={BaselineFolder(cell)}";
        }
        else if (ComparesCells && baseline is not null && Directory.Exists(BaselineFolder(baseline)))
        {
            yield return $"--baseline={BaselineFolder(baseline)}";
        }
    }

    private bool ComparesCells => _plan.Study.Tasks.Tasks.Any(task => task is "perplexity" or "classification");

    private string BaselineFolder(StudyCell cell) => Path.Combine(_output, WorkFolder, cell.Key);

    private string CellFile(StudyCell cell) => Path.Combine(_output, CellsFolder, cell.Key + ".json");

    private ResultDocument? Finished(StudyCell cell)
    {
        string file = CellFile(cell);
        if (!File.Exists(file))
        {
            return null;
        }

        try
        {
            // Names may have changed in the study's file since; the numbers have not.
            return DocumentJson.Read<ResultDocument>(File.ReadAllText(file), ResultDocument.JsonOptions)! with
            {
                Model = cell.Model.Name,
                Label = cell.Method.Label,
                Baseline = cell.Method.IsBaseline ? true : null,
            };
        }
        catch (JsonException)
        {
            // Somebody edited it: measuring again is safe.
            return null;
        }
    }

    private FileStream Hold()
    {
        string path = Path.Combine(_output, LockFile);
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (IOException error)
        {
            throw new NibbleException(ErrorKind.Resource, $"the study in {_output} is being run by another process", error.Message, "wait for it, or choose another output");
        }
    }
}
