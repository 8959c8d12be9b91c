using System.CommandLine;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Budget;
using Nibble.Quantization.Calibration;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary>The options of <c>nibble quantize</c> that decide about each matrix: a budget, or a plan that was saved.</summary>
internal sealed class BudgetOptions
{
    private readonly Option<string?> _budget = new("--budget") { Description = "Choose method and bits of each matrix for at most so many bits per weight, for example 4.25bpw; needs --data." };
    private readonly Option<string?> _maxBytes = new("--max-bytes") { Description = "The same for at most so many bytes of weight files, for example 3.2GB." };
    private readonly Option<string?> _plan = new("--plan") { Description = "Quantize as this file says: a saved plan, or the nibble_quantization.json of another folder." };
    private readonly Option<string?> _save = new("--save-plan") { Description = "Write the plan to this file; with --dry-run to edit it before the work." };

    public void AddTo(Command command)
    {
        foreach (Option option in new Option[] { _budget, _maxBytes, _plan, _save })
        {
            command.Options.Add(option);
        }
    }

    /// <summary>The request with a plan of its own, or null if neither a budget nor a plan was given.</summary>
    public PlanRequest? Request(ParseResult parsed, string model, QuantizationOptions quantization, CalibrationRequest? calibration, CancellationToken cancellation)
    {
        (string? bits, string? bytes, string? plan) = (parsed.GetValue(_budget), parsed.GetValue(_maxBytes), parsed.GetValue(_plan));
        if (new[] { bits, bytes, plan }.Count(value => value is not null) > 1)
        {
            Throw.Usage("--budget, --max-bytes and --plan exclude each other", "each decides about all matrices", "give one of them");
        }

        PlanRequest? chosen = quantization.Request(parsed, isPlanned: bits is not null || bytes is not null || plan is not null);
        if (plan is not null)
        {
            PlanRequest read = PlanFile.Read(plan, ModelConfig.Open(model));
            PlanRequest others = quantization.Others(parsed, read.Settings);
            if (chosen is not null || others.Head || others.Embeddings)
            {
                Throw.Usage("--plan and --method (or --quantize-head, --quantize-embeddings) exclude each other", "the plan names the method of every matrix", "leave one of them out, or use --override");
            }

            return read with { Overrides = [.. read.Overrides, .. others.Overrides], Layout = others.Layout ?? read.Layout };
        }

        BudgetRequest? budget = bits is not null ? BudgetRequest.ParseBits(bits) : bytes is not null ? BudgetRequest.ParseBytes(bytes) : null;
        return budget is null ? null : Plan(model, budget, chosen, quantization.Others(parsed, new() { Method = "rtn" }), calibration, cancellation);
    }

    /// <summary>Whether a plan is chosen by measuring on the calibration text.</summary>
    public bool Measures(ParseResult parsed) => parsed.GetValue(_budget) is not null || parsed.GetValue(_maxBytes) is not null;

    /// <summary>What decided about the matrices, as it was given; null if nothing of this kind did.</summary>
    public string? Text(ParseResult parsed) => parsed.GetValue(_budget) ?? (parsed.GetValue(_maxBytes) is { } bytes ? $"{bytes} bytes" : null) ?? parsed.GetValue(_plan);

    /// <summary>Saves the plan, if that was asked for.</summary>
    public void Save(ParseResult parsed, QuantPlan plan)
    {
        if (parsed.GetValue(_save) is { } path)
        {
            PlanFile.Write(path, plan);
            Output.Text.WriteLine($"plan: {path}");
        }
    }

    private static PlanRequest Plan(string model, BudgetRequest budget, PlanRequest? chosen, PlanRequest others, CalibrationRequest? calibration, CancellationToken cancellation)
    {
        if (calibration is null)
        {
            Throw.Usage("a budget needs a text", "how much each matrix matters is measured on it", "give a text with --data");
        }

        BudgetPlan plan = QuantizeRendering.WithProgress("measure", progress => BudgetPlanner.Create(model, budget, calibration, chosen?.Settings, others, progress, cancellation));
        QuantizeRendering.Budget(plan, budget);
        return plan.Request;
    }
}
