using Nibble.Evaluation;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary>Scores of classes and the confusion matrix, as tables.</summary>
internal static class ClassRendering
{
    public static void Show(ResultDocument result)
    {
        if (result.Classes is not { } classes || result.Confusion is not { } confusion)
        {
            return;
        }

        Table table = new Table().AddColumns(["class", "precision", "recall", "F1", "rows", .. classes.Select(item => "→ " + Markup.Escape(item.Label)), "→ unparsed"]);
        for (int i = 0; i < classes.Count; i++)
        {
            string[] counts = [.. confusion[i].Select(count => $"{count:N0}")];
            table.AddRow([Markup.Escape(classes[i].Label), $"{classes[i].Precision:P1}", $"{classes[i].Recall:P1}", $"{classes[i].F1:P1}", $"{classes[i].Support:N0}", .. counts]);
        }

        Output.Human.Write(table);
    }
}
