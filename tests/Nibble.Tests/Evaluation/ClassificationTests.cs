using Nibble.Evaluation.Classification;
using Nibble.IO;

namespace Nibble.Tests.Evaluation;

/// <summary>Metrics of classifications, and how their data are read.</summary>
public class ClassificationTests
{
    [Fact]
    public void ScoresOfAWorkedExample()
    {
        // As scikit-learn's classification_report gives for these rows.
        int[] truth = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2], predicted = [0, 0, 1, 2, 1, 1, 0, 2, 2, 1];
        ConfusionMatrix matrix = new(truth, predicted, 3);
        Assert.Equal(0.6, matrix.Accuracy, 1e-12);
        IReadOnlyList<ClassScore> scores = matrix.Scores(["a", "b", "c"]);
        Assert.Equal(2.0 / 3, scores[0].Precision, 1e-12);
        Assert.Equal(0.5, scores[0].Recall, 1e-12);
        Assert.Equal(4.0 / 7, scores[0].F1, 1e-12);
        Assert.Equal(0.5, scores[1].Precision, 1e-12);
        Assert.Equal(4.0 / 7, scores[1].F1, 1e-12);
        Assert.Equal(2.0 / 3, scores[2].F1, 1e-12);
        Assert.Equal(((2 * 4.0 / 7) + (2.0 / 3)) / 3, matrix.MacroF1, 1e-12);
        Assert.Equal([[2, 1, 1, 0], [1, 2, 0, 0], [0, 1, 2, 0]], matrix.Counts());
    }

    [Fact]
    public void AnAnswerWithoutAClassIsWrongAndNotDropped()
    {
        ConfusionMatrix matrix = new([0, 1, 1, 0], [0, ConfusionMatrix.Unparsed, 1, ConfusionMatrix.Unparsed], 2);
        Assert.Equal(0.5, matrix.Accuracy, 1e-12);
        Assert.Equal(2, matrix.UnparsedRows);
        Assert.Equal(4, matrix.Rows);
        Assert.Equal(0.5, matrix.Scores(["n", "y"])[1].Recall, 1e-12);
    }

    [Theory]
    [InlineData(5, 15, 0.04138946533203125)]
    [InlineData(0, 0, 1)]
    [InlineData(7, 7, 1)]
    [InlineData(600, 700, 0.006036981)]
    public void PValuesOfMcNemarsTest(int onlyFirst, int onlySecond, double expected) =>
        Assert.Equal(expected, new McNemar(onlyFirst, onlySecond).PValue, 1e-7);

    [Theory]
    [InlineData(" positive.", 2)]
    [InlineData("Negative, not positive", 0)]
    [InlineData(" neutrality", ConfusionMatrix.Unparsed)]
    [InlineData("", ConfusionMatrix.Unparsed)]
    [InlineData("The answer: NEUTRAL", 1)]
    public void TheFirstNamedClassIsTheAnswer(string answer, int expected) =>
        Assert.Equal(expected, ZeroShotClassifier.Parse(answer, ["negative", "neutral", "positive"]));

    [Fact]
    public void AFolderOfTheTweetEvalForm()
    {
        using TempFolder folder = new();
        Write(folder, "0\tno\n1\tyes\n", "good day\n\nbad day\n", "1\n0\n0\n");
        LabeledSet set = LabeledSource.Load(folder.Path, "test");
        Assert.Equal(["no", "yes"], set.Labels);
        Assert.Equal([new("good day", 1), new(string.Empty, 0), new("bad day", 0)], set.Rows);
    }

    [Theory]
    [InlineData("0\tno\n1\tyes\n", "a\nb\n", "1\n", "2 texts and 1 labels")]
    [InlineData("0\tno\n1\tyes\n", "a\n", "2\n", "line 1 of test_labels.txt is '2'")]
    [InlineData("0\tno\n2\tyes\n", "a\n", "0\n", "line 2 is not '1'")]
    [InlineData("0\tno\n1\tyes\n", "", "", "empty")]
    public void WhatDoesNotFitIsRefused(string mapping, string texts, string labels, string message)
    {
        using TempFolder folder = new();
        Write(folder, mapping, texts, labels);
        Assert.Contains(message, Assert.Throws<NibbleException>(() => LabeledSource.Load(folder.Path, "test")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AMissingSplitIsNotFound()
    {
        using TempFolder folder = new();
        Write(folder, "0\tno\n1\tyes\n", "a\n", "0\n");
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => LabeledSource.Load(folder.Path, "train")).Kind);
    }

    [Fact]
    public void EndsOfLinesAreNoPartOfTexts()
    {
        using TempFolder folder = new();
        Write(folder, "0\tno\n1\tyes\n", "a b\n\nc\n", "0\n1\n1\n");
        LabeledSet set = LabeledSource.Load(folder.Path, "test");
        Write(folder, "0\tno\r\n1\tyes\r\n", "a b\r\n\r\nc\r\n", "0\r\n1\r\n1\r\n");
        LabeledSet other = LabeledSource.Load(folder.Path, "test");
        Assert.Equal(set.Rows, other.Rows);
        Assert.Equal(set.Labels, other.Labels);
    }

    private static void Write(TempFolder folder, string mapping, string texts, string labels)
    {
        File.WriteAllText(folder["mapping.txt"], mapping);
        File.WriteAllText(folder["test_text.txt"], texts);
        File.WriteAllText(folder["test_labels.txt"], labels);
    }
}
