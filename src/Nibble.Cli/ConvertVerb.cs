using System.CommandLine;
using Nibble.Models;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble convert</c>: a model folder as a GGUF file, a GGUF file as a model folder.</summary>
internal sealed class ConvertVerb : IVerb
{
    public Command Create(CancellationToken cancellation)
    {
        Argument<string> model = CommonOptions.Model();
        Argument<string> output = new("output") { Description = "NAME.gguf writes a GGUF file, any other name a Hugging Face folder." };
        Option<string?> type = new("--type")
        {
            Description = $"Element type of the matrices. GGUF: {string.Join(", ", ModelConverter.GgufNames)} (default f16); folder: f32, f16, bf16 (default f32).",
        };
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json();
        Command command = new("convert", "Write a model in another format: GGUF for llama.cpp, or a dense Hugging Face folder.") { model, output, type, force, json };
        command.SetAction(parsed =>
        {
            ConversionReport report = ModelConverter.Convert(
                parsed.GetRequiredValue(model), parsed.GetRequiredValue(output), parsed.GetValue(type), parsed.GetValue(force), cancellation);
            if (parsed.GetValue(json))
            {
                Output.Json(new { Schema = 1, Model = parsed.GetRequiredValue(model), report.Output, report.Type, FileBytes = report.Bytes, report.Notes });
                return;
            }

            foreach (string note in report.Notes)
            {
                Output.Human.WriteLine("note: " + note);
            }

            Output.Human.WriteLine($"written: {report.Output}, {report.Type}, {Sizes.Text(report.Bytes)}");
        });
        return command;
    }
}
