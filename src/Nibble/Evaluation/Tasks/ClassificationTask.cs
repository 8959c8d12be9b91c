using System.Diagnostics;
using Nibble.Evaluation.Classification;
using Nibble.IO;

namespace Nibble.Evaluation.Tasks;

/// <summary>
/// Classes of texts: by the model's classification head if it has one, else by asking (zero-shot). Accuracy, macro F1, scores of every
/// class, confusion matrix; against a baseline also the difference on the same rows and McNemar's test.
/// </summary>
public sealed class ClassificationTask : IEvaluationTask
{
    internal const string PredictionsFile = "predictions.json";

    /// <inheritdoc/>
    public string Name => "classification";

    /// <inheritdoc/>
    public void Run(EvaluationContext context, ResultBuilder result)
    {
        EvaluationOptions options = context.Options;
        LabeledSet data = LabeledSource.Load(options.Data, options.Split);
        LabeledText[] rows = [.. data.Rows.Take(options.Rows ?? int.MaxValue)];
        int[] truth = [.. rows.Select(row => row.Label)];
        Stopwatch time = Stopwatch.StartNew();
        int[] predicted = Predict(context, data, [.. rows.Select(row => row.Text)], result);
        result.Add("classification_seconds", time.Elapsed.TotalSeconds);
        result.DataSha256 ??= data.Fingerprint;
        AddScores(result, truth, predicted, data.Labels, (ulong)options.Seed);
        Predictions predictions = new(1, data.Fingerprint, options.Split, predicted);
        if (options.Baseline is { } baseline)
        {
            AddComparison(result, truth, predictions, Predictions.Read(baseline, predictions), (ulong)options.Seed);
        }

        if (options.SaveBaseline is { } folder)
        {
            predictions.Write(folder);
        }
    }

    private static int[] Predict(EvaluationContext context, LabeledSet data, string[] texts, ResultBuilder result)
    {
        void Progress(double done) => context.Progress("classification", done);
        int heads = context.Model.Facts.Labels;
        if (heads == 0)
        {
            string template = context.Options.PromptTemplate ?? ZeroShotClassifier.DefaultTemplate(data.Labels);
            result.Protocol ??= "zero-shot";
            return new ZeroShotClassifier(context.Model, template, data.Labels).Predict(texts, Progress, context.Cancellation);
        }

        if (heads != data.Labels.Count)
        {
            Throw.BadInput(
                $"the model's head has {heads} labels, the data {data.Labels.Count}: {string.Join(", ", data.Labels)}",
                "it was trained for other classes",
                "use a model that was tuned on these classes");
        }

        result.Protocol ??= "head";
        HeadClassifier classifier = new(context.Model.Model, context.Model.Tokenizer);
        int[] predicted = classifier.Predict(texts, Progress, context.Cancellation);
        result.Add("truncated_rows", classifier.Truncated);
        return predicted;
    }

    private static void AddScores(ResultBuilder result, int[] truth, int[] predicted, IReadOnlyList<string> labels, ulong seed)
    {
        ConfusionMatrix matrix = new(truth, predicted, labels.Count);
        RowBootstrap bootstrap = new(seed);
        ConfusionMatrix Drawn(int[] drawn) => new(truth, predicted, labels.Count, drawn);
        (double low, double high) = bootstrap.Interval(truth.Length, drawn => Drawn(drawn).Accuracy);
        result.Add("accuracy", matrix.Accuracy, low, high);
        (low, high) = bootstrap.Interval(truth.Length, drawn => Drawn(drawn).MacroF1);
        result.Add("macro_f1", matrix.MacroF1, low, high);
        result.Add("classified_rows", truth.Length);
        result.Add("unparsed_rows", matrix.UnparsedRows);
        result.Classes = matrix.Scores(labels);
        result.Confusion = matrix.Counts();
    }

    private static void AddComparison(ResultBuilder result, int[] truth, Predictions now, Predictions before, ulong seed)
    {
        double[] difference = [.. truth.Select((label, i) => (now.Predicted[i] == label ? 1.0 : 0) - (before.Predicted[i] == label ? 1 : 0))];
        (double low, double high) = new RowBootstrap(seed).Interval(truth.Length, drawn => drawn.Average(i => difference[i]));
        result.Add("accuracy_delta", difference.Average(), low, high);
        McNemar test = McNemar.Of(truth, before.Predicted, now.Predicted);
        result.Add("mcnemar_p", test.PValue);
        result.Add("rows_lost", test.OnlyFirst);
        result.Add("rows_gained", test.OnlySecond);
    }
}

/// <summary>What a baseline predicted.</summary>
internal sealed record Predictions(int Schema, string Data, string Split, int[] Predicted)
{
    public void Write(string folder)
    {
        Directory.CreateDirectory(folder);
        AtomicFile.WriteAllText(Path.Combine(folder, ClassificationTask.PredictionsFile), DocumentJson.Text(this, ResultDocument.JsonOptions));
    }

    public static Predictions Read(string folder, Predictions expected)
    {
        string path = Path.Combine(folder, ClassificationTask.PredictionsFile);
        if (!File.Exists(path))
        {
            Throw.NotFound($"baseline {folder} has no predictions", $"there is no {ClassificationTask.PredictionsFile} in it", "make one with 'nibble eval MODEL --tasks classification --save-baseline FOLDER'");
        }

        Predictions found = JsonText.Read(path, root => DocumentJson.Read<Predictions>(root, ResultDocument.JsonOptions), "measure the baseline again");
        if (found.Predicted is null || found.Data != expected.Data || found.Split != expected.Split || found.Predicted.Length != expected.Predicted.Length)
        {
            Throw.BadInput($"baseline {folder} classified other rows", $"it has {found.Predicted?.Length ?? 0:N0} of {found.Split}, this measurement {expected.Predicted.Length:N0} of {expected.Split}", "measure the baseline again with the same data, split and rows");
        }

        return found;
    }
}
