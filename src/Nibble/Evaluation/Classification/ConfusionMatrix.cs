namespace Nibble.Evaluation.Classification;

/// <summary>Precision, recall and F1 of one class.</summary>
/// <param name="Label">Its name.</param>
/// <param name="Precision">Share of the rows given this class that are of it; 0 if none was.</param>
/// <param name="Recall">Share of its rows that were given it; 0 if it has none.</param>
/// <param name="F1">2·P·R/(P + R); 0 if both are 0.</param>
/// <param name="Support">Rows of this class.</param>
public sealed record ClassScore(string Label, double Precision, double Recall, double F1, int Support);

/// <summary>
/// What was predicted for rows of each class. An answer in which no class could be found is a column of its own: such rows count as
/// wrong, they are never dropped.
/// </summary>
public sealed class ConfusionMatrix
{
    /// <summary>The prediction of an answer in which no class was found.</summary>
    public const int Unparsed = -1;

    private readonly int[,] _counts;

    /// <summary>Counts predictions.</summary>
    /// <param name="truth">Class of each row.</param>
    /// <param name="predicted">Predicted class of each row, or <see cref="Unparsed"/>.</param>
    /// <param name="classes">Number of classes.</param>
    /// <param name="rows">The rows that are counted, some perhaps more than once; null for each once.</param>
    public ConfusionMatrix(int[] truth, int[] predicted, int classes, int[]? rows = null)
    {
        _counts = new int[classes, classes + 1];
        Classes = classes;
        for (int i = 0; i < (rows ?? truth).Length; i++)
        {
            int row = rows is null ? i : rows[i];
            _counts[truth[row], predicted[row] == Unparsed ? classes : predicted[row]]++;
        }
    }

    /// <summary>Number of classes.</summary>
    public int Classes { get; }

    /// <summary>Rows in all.</summary>
    public int Rows => Enumerable.Range(0, Classes).Sum(RowsOf);

    /// <summary>Rows without a parsed answer.</summary>
    public int UnparsedRows => Enumerable.Range(0, Classes).Sum(label => _counts[label, Classes]);

    /// <summary>Share of rows whose class was found.</summary>
    public double Accuracy => (double)Enumerable.Range(0, Classes).Sum(label => _counts[label, label]) / Rows;

    /// <summary>Mean F1 of the classes, each weighing the same: scikit-learn's <c>f1_score(average="macro")</c>.</summary>
    public double MacroF1 => Enumerable.Range(0, Classes).Average(label => F1(label));

    /// <summary>Scores of every class.</summary>
    public IReadOnlyList<ClassScore> Scores(IReadOnlyList<string> labels) =>
        [.. Enumerable.Range(0, Classes).Select(label => new ClassScore(labels[label], Precision(label), Recall(label), F1(label), RowsOf(label)))];

    /// <summary>The counts: a row per true class, a column per predicted class and a last one for unparsed answers.</summary>
    public IReadOnlyList<IReadOnlyList<int>> Counts() =>
        [.. Enumerable.Range(0, Classes).Select(label => (IReadOnlyList<int>)[.. Enumerable.Range(0, Classes + 1).Select(column => _counts[label, column])])];

    private int RowsOf(int label) => Enumerable.Range(0, Classes + 1).Sum(column => _counts[label, column]);

    private double Precision(int label) => Share(_counts[label, label], Enumerable.Range(0, Classes).Sum(row => _counts[row, label]));

    private double Recall(int label) => Share(_counts[label, label], RowsOf(label));

    private double F1(int label)
    {
        double precision = Precision(label), recall = Recall(label);
        return precision + recall == 0 ? 0 : 2 * precision * recall / (precision + recall);
    }

    private static double Share(int part, int whole) => whole == 0 ? 0 : (double)part / whole;
}
