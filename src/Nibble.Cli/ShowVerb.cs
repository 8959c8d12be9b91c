using System.CommandLine;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble show</c>: a one-screen card of a model, an adapter or a weights file.</summary>
internal sealed class ShowVerb : IVerb
{
    public Command Create(CancellationToken cancellation)
    {
        Argument<string> model = CommonOptions.Model();
        Option<bool> tensors = new("--tensors") { Description = "List every tensor." };
        Option<bool> check = new("--check") { Description = "Read all weights and report NaN and infinity." };
        Option<bool> json = CommonOptions.Json();
        Command command = new("show", "Show what a model folder or a weights file holds.") { model, tensors, check, json };
        command.SetAction(parsed =>
        {
            string path = parsed.GetRequiredValue(model);
            ModelCard card = ModelCard.Of(path);
            IReadOnlyList<SafetensorsEntry>? list = parsed.GetValue(tensors) ? ModelFiles.Entries(path) : null;
            IReadOnlyList<NonFiniteTensor>? bad = parsed.GetValue(check) ? ModelFiles.NonFinite(path, cancellation) : null;
            if (parsed.GetValue(json))
            {
                Output.Json(new { Schema = 1, Card = card, TensorList = list?.Select(Row), NonFinite = bad });
            }
            else
            {
                Render(card);
                RenderTensors(list);
                RenderCheck(bad);
            }

            return bad is { Count: > 0 } ? (int)IO.ErrorKind.BadInput : 0;
        });
        return command;
    }

    private static object Row(SafetensorsEntry entry) => new { entry.Name, Dtype = entry.DTypeName, Shape = entry.Extents, Bytes = entry.ByteLength };

    private static void Render(ModelCard card)
    {
        Grid grid = new Grid().AddColumn(new GridColumn().NoWrap().PadRight(3)).AddColumn();
        foreach ((string name, string? value) in Lines(card).Where(line => line.Value != null))
        {
            grid.AddRow(new Text(name), new Text(value!));
        }

        Output.Human.Write(grid);
        if (card.Tensors.Count > 0)
        {
            Table table = new Table().AddColumns("dtype", "tensors", "elements", "bytes");
            foreach (DTypeShare share in card.Tensors)
            {
                table.AddRow(share.Dtype, $"{share.Tensors:N0}", $"{share.Elements:N0}", Sizes.Text(share.Bytes));
            }

            Output.Human.Write(table);
        }

        foreach (string warning in card.Warnings)
        {
            Output.Text.WriteLine("warning: " + warning);
        }
    }

    private static IEnumerable<(string Name, string? Value)> Lines(ModelCard card)
    {
        yield return (card.Kind, card.Path);
        yield return ("architecture", card.ModelType == null ? null : $"{card.ModelType}{(card.Architecture == null ? string.Empty : $" ({card.Architecture})")}");
        yield return ("parameters", card.Parameters == null ? null : Parameters(card));
        yield return ("sizes", card.Sizes is not { } f ? null : $"{f.Layers} layers, hidden {f.Hidden:N0}, vocabulary {f.Vocabulary:N0}, context {f.Context:N0}{(f.Labels > 0 ? $", {f.Labels} labels" : string.Empty)}");
        yield return ("attention", card.Attention);
        yield return ("quantization", card.QuantMethod == null ? null : $"{card.QuantMethod}: {Pairs(card.Quantization!)}");
        yield return ("adapter", card.Adapter == null ? null : Pairs(card.Adapter));
        yield return ("weights", card.Files == 0 ? "none" : $"{Sizes.Text(card.WeightBytes)} in {card.Files} file{(card.Files == 1 ? string.Empty : "s")}{(card.BitsPerParameter == null ? string.Empty : $", {card.BitsPerParameter:0.00} bits per parameter")}");
        yield return ("tokenizer", card.Kind == "file" ? null : card.Tokenizer.Count == 0 ? "none" : string.Join(", ", card.Tokenizer));
        yield return ("metadata", card.Metadata == null ? null : Pairs(card.Metadata));
    }

    private static string Parameters(ModelCard card) => card.ParameterParts is not { } parts
        ? $"{card.Parameters:N0}"
        : $"{parts.Total:N0} (embedding {parts.Embedding:N0}, blocks {parts.Blocks:N0}, head {(parts.Head == 0 ? "tied" : $"{parts.Head:N0}")}, rest {parts.Rest:N0})";

    private static string Pairs(IReadOnlyDictionary<string, string> pairs) => string.Join(", ", pairs.Select(pair => $"{pair.Key} = {pair.Value}"));

    private static void RenderTensors(IReadOnlyList<SafetensorsEntry>? list)
    {
        if (list == null)
        {
            return;
        }

        Table table = new Table().AddColumns("tensor", "dtype", "shape", "bytes");
        foreach (SafetensorsEntry entry in list)
        {
            table.AddRow(new Text(entry.Name), new Text(entry.DTypeName), new Text(entry.ShapeText), new Text($"{entry.ByteLength:N0}"));
        }

        Output.Human.Write(table);
    }

    private static void RenderCheck(IReadOnlyList<NonFiniteTensor>? bad)
    {
        if (bad == null)
        {
            return;
        }

        Output.Text.WriteLine(bad.Count == 0 ? "all weights are finite" : $"{bad.Count} tensors hold NaN or infinity:");
        foreach (NonFiniteTensor tensor in bad)
        {
            Output.Text.WriteLine($"  {tensor.Name}, element {tensor.Element:N0}");
        }
    }
}
