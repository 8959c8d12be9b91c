using System.CommandLine;
using Nibble.Certificates;
using Nibble.IO;
using Nibble.Models;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble convert</c>: a model folder as a GGUF file, a GGUF file as a model folder, and the certificates of both.</summary>
internal sealed class ConvertVerb : IVerb
{
    private readonly Argument<string> _model = CommonOptions.Model();
    private readonly Argument<string?> _output = new("output") { Description = "NAME.gguf writes a GGUF file, any other name a Hugging Face folder.", Arity = ArgumentArity.ZeroOrOne };
    private readonly Option<string?> _type = new("--type")
    {
        Description = $"Element type of the matrices. GGUF: {string.Join(", ", ModelConverter.GgufNames)} (default f16); folder: f32, f16, bf16 (default f32).",
    };
    private readonly Option<bool> _verify = new("--verify") { Description = "Write nothing: MODEL is what nibble quantize or nibble convert wrote; compute its certificate again, and fail if it does not hold." };
    private readonly Option<string?> _source = new("--source") { Description = "With --verify: the model that it was made from (default: looked for by its name)." };
    private readonly Option<bool> _force = CommonOptions.Force();
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("convert", "Write a model in another format: GGUF for llama.cpp, or a dense Hugging Face folder.") { _model, _output, _type, _verify, _source, _force, _json };
        command.SetAction(parsed =>
        {
            if (parsed.GetValue(_verify))
            {
                Verify(parsed);
            }
            else
            {
                Convert(parsed, cancellation);
            }
        });
        return command;
    }

    private void Convert(ParseResult parsed, CancellationToken cancellation)
    {
        if (parsed.GetValue(_output) is not { } output || parsed.GetValue(_source) is not null)
        {
            Throw.Usage("convert takes a model and an output", parsed.GetValue(_output) is null ? "there is no output" : "--source belongs to --verify", "for example nibble convert MODEL NAME.gguf --type q8_0, or nibble convert --verify NAME.gguf");
            return;
        }

        ConversionReport report = ModelConverter.Convert(parsed.GetRequiredValue(_model), output, parsed.GetValue(_type), parsed.GetValue(_force), cancellation);
        if (parsed.GetValue(_json))
        {
            Output.Json(new { Schema = 1, Model = parsed.GetRequiredValue(_model), report.Output, report.Type, FileBytes = report.Bytes, report.Notes, Certificate = QuantizeRendering.Document(report.Certificate) });
            return;
        }

        foreach (string note in report.Notes)
        {
            Output.Text.WriteLine("note: " + note);
        }

        Output.Text.WriteLine(QuantizeRendering.Line(report.Certificate));
        Output.Text.WriteLine($"written: {report.Output}, {report.Type}, {Sizes.Text(report.Bytes)}");
    }

    private void Verify(ParseResult parsed)
    {
        string model = parsed.GetRequiredValue(_model);
        if (parsed.GetValue(_output) is not null || parsed.GetValue(_type) is not null)
        {
            Throw.Usage("--verify takes one model", "nothing is written", "name its source with --source MODEL");
        }

        Verification verification = Certifier.Verify(model, parsed.GetValue(_source));
        if (parsed.GetValue(_json))
        {
            Output.Json(new { Schema = 1, Model = model, Verified = true, verification.Source, Certificate = QuantizeRendering.Document(verification.Certificate) });
            return;
        }

        Output.Text.WriteLine(QuantizeRendering.Line(verification.Certificate));
        Output.Text.WriteLine(verification.Source is { } source
            ? $"holds: files, logits, and the difference from {source}"
            : $"holds for the files and the logits; '{verification.Certificate.Source}', from which it was made, was not found, so the difference was not computed again: use --source MODEL");
    }
}
