using Nibble.Evaluation.Classification;

namespace Nibble.Bench.Benches;

/// <summary>
/// What a tuned model has to beat: logistic regression over the words of a text, trained on the same rows. Softmax with an L2
/// penalty, by stochastic gradients with AdaGrad's step sizes; words that occur once are left out.
/// </summary>
internal static class BagOfWords
{
    private const int Epochs = 20;
    private const double Rate = 0.3, Penalty = 1e-5;

    public static void Run(BenchOptions options, BenchReport report)
    {
        LabeledSet train = LabeledSource.Load("tweeteval", "train"), test = LabeledSource.Load("tweeteval", "test");
        foreach (int rows in new[] { 4000, 20_000, train.Rows.Count })
        {
            ConfusionMatrix matrix = Measure([.. train.Rows.Take(rows)], test);
            report.Add($"bag of words, {rows:N0} rows: accuracy", [matrix.Accuracy * 100], "%");
            report.Add($"bag of words, {rows:N0} rows: macro F1", [matrix.MacroF1 * 100], "%");
        }
    }

    private static ConfusionMatrix Measure(LabeledText[] train, LabeledSet test)
    {
        Dictionary<string, int> vocabulary = [];
        foreach (IGrouping<string, string> word in train.SelectMany(row => Words(row.Text).Distinct()).GroupBy(word => word).Where(group => group.Skip(1).Any()))
        {
            vocabulary.Add(word.Key, vocabulary.Count);
        }

        int[] Features(string text) => [.. Words(text).Distinct().Where(vocabulary.ContainsKey).Select(word => vocabulary[word])];
        int[][] inputs = [.. train.Select(row => Features(row.Text))];
        double[,] weights = Train(inputs, [.. train.Select(row => row.Label)], vocabulary.Count, test.Labels.Count);
        int[] predicted = [.. test.Rows.Select(row => Best(Scores(weights, Features(row.Text))))];
        return new ConfusionMatrix([.. test.Rows.Select(row => row.Label)], predicted, test.Labels.Count);
    }

    // The last row of the weights is the bias.
    private static double[,] Train(int[][] inputs, int[] labels, int words, int classes)
    {
        double[,] weights = new double[words + 1, classes], squares = new double[words + 1, classes];
        int[] order = [.. Enumerable.Range(0, inputs.Length)];
        for (int epoch = 0; epoch < Epochs; epoch++)
        {
            new Random(epoch).Shuffle(order);
            foreach (int row in order)
            {
                double[] errors = Softmax(Scores(weights, inputs[row]));
                errors[labels[row]] -= 1;
                foreach (int word in inputs[row].Append(words))
                {
                    for (int c = 0; c < classes; c++)
                    {
                        double gradient = errors[c] + (Penalty * weights[word, c]);
                        squares[word, c] += gradient * gradient;
                        weights[word, c] -= Rate * gradient / Math.Sqrt(squares[word, c] + 1e-8);
                    }
                }
            }
        }

        return weights;
    }

    private static double[] Scores(double[,] weights, int[] words)
    {
        double[] scores = new double[weights.GetLength(1)];
        foreach (int word in words.Append(weights.GetLength(0) - 1))
        {
            for (int c = 0; c < scores.Length; c++)
            {
                scores[c] += weights[word, c];
            }
        }

        return scores;
    }

    private static double[] Softmax(double[] scores)
    {
        double largest = scores.Max();
        double[] values = [.. scores.Select(score => Math.Exp(score - largest))];
        double sum = values.Sum();
        return [.. values.Select(value => value / sum)];
    }

    private static int Best(double[] scores) => Array.IndexOf(scores, scores.Max());

    private static IEnumerable<string> Words(string text) =>
        text.ToLowerInvariant().Split(text.Where(c => !char.IsLetterOrDigit(c) && c is not ('\'' or '@' or '#')).Distinct().ToArray(), StringSplitOptions.RemoveEmptyEntries);
}
