using Nibble.Certificates;
using System.Diagnostics;
using Nibble.Quantization;
using Nibble.Quantization.Budget;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary>Tables and documents of <c>nibble quantize</c>.</summary>
internal static class QuantizeRendering
{
    private const int WorstShown = 5;

    /// <summary>What happens to which matrices, those with equal settings in one line.</summary>
    public static void Plan(QuantPlan plan)
    {
        FitTable table = new(
        [
            new("matrices", IsNumber: true), new("role"), new("method"), new("settings", Wraps: true), new("why", Wraps: true, Rank: 2), new("elements", IsNumber: true, Rank: 1), new("for example"),
        ]);
        foreach (var group in plan.Tensors.GroupBy(tensor => (tensor.Settings, tensor.Spec.Role, tensor.Reason)))
        {
            PlannedTensor first = group.First();
            table.AddRow(
                $"{group.Count()}",
                group.Key.Role.ToString().ToLowerInvariant(),
                first.Settings?.Method ?? "dense",
                Markup.Escape(first.Facts?.ToString() ?? string.Empty),
                Markup.Escape(group.Key.Reason),
                $"{group.Sum(tensor => tensor.Count):N0}",
                Markup.Escape(first.Spec.Path));
        }

        table.Write(Output.Human);
        Output.Text.WriteLine($"layout: {plan.Layout.Name}");
    }

    public static void Estimate(PlanEstimate estimate) => Output.Text.WriteLine(
        $"{Sizes.Text(estimate.BytesBefore)} → {Sizes.Text(estimate.BytesAfter)}, {estimate.BitsPerWeight:F3} bits per weight, {estimate.BitsPerParameter:F3} per parameter"
        + (estimate.Seconds is { } seconds ? $", about {Math.Max(0.1, seconds):F1} s of quantization" : string.Empty));

    /// <summary>What a budget was spent on.</summary>
    public static void Budget(BudgetPlan plan, BudgetRequest budget)
    {
        Table table = new Table().AddColumns("matrix", "settings", "bits per weight", "expected KL");
        foreach (BudgetChoice choice in plan.Choices)
        {
            table.AddRow(Markup.Escape(choice.Tensor.Spec.Path), Markup.Escape(choice.Tensor.Settings!.ToString()), $"{8.0 * choice.Bytes / choice.Tensor.Count:F3}", $"{choice.Loss:G3}");
        }

        Output.Human.Write(table);
        foreach ((int i, BudgetTrial trial) in plan.Trials.Index())
        {
            Output.Text.WriteLine($"tried: {trial.Name}, {trial.BitsPerWeight:F3} bits per weight, KL {trial.Kl:G4}{(i == plan.Chosen ? ": taken" : string.Empty)}");
        }

        string bound = plan.LowerBound < plan.ExpectedLoss ? $", at best {plan.LowerBound:G4} with these choices" : ", the least with these choices";
        Output.Text.WriteLine($"budget {budget}: {plan.Bytes:N0} of {plan.Capacity:N0} bytes, {plan.BitsPerWeight:F3} bits per weight, expected KL {plan.ExpectedLoss:G4}{bound}");
    }

    /// <summary>Runs the work, with a bar on a terminal.</summary>
    public static T WithProgress<T>(string name, Func<Action<QuantizationStep>?, T> work)
    {
        if (!Output.Human.Profile.Capabilities.Interactive)
        {
            return work(Lines(name));
        }

        ProgressColumn[] columns = [new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new TimeLeftColumn()];
        return Output.Human.Progress().Columns(columns).Start(context =>
        {
            ProgressTask bar = context.AddTask(name, maxValue: 1);
            return work(step =>
            {
                bar.Value = Share(step);
                bar.Description = Markup.Escape(step.Path);
            });
        });
    }

    /// <summary>Where there is no terminal: a line now and then.</summary>
    private static Action<QuantizationStep> Lines(string name)
    {
        const int secondsBetween = 15;
        long start = Stopwatch.GetTimestamp(), last = start;
        return step =>
        {
            if (Stopwatch.GetElapsedTime(last).TotalSeconds < secondsBetween || Share(step) is not (> 0 and < 1))
            {
                return;
            }

            last = Stopwatch.GetTimestamp();
            double left = Stopwatch.GetElapsedTime(start).TotalSeconds * (1 - Share(step)) / Share(step);
            Output.Text.WriteLine($"{name}: {step.Done} of {step.Total} ({Share(step):P0}), about {left:F0} s left, {step.Path}");
        };
    }

    /// <summary>The share of the work that is done.</summary>
    public static double Share(QuantizationStep step) => step.Share > 0 ? step.Share : step.Done / (double)Math.Max(1, step.Total);

    public static void Result(string output, QuantizationResult result, bool verified)
    {
        QuantizationReport report = result.Report;
        FitTable table = new([new("worst matrices"), new("shape"), new("relative error", IsNumber: true), new("largest error", IsNumber: true), new("bits per weight", IsNumber: true)]);
        foreach (QuantizedTensorReport tensor in report.Tensors.OrderByDescending(tensor => tensor.RelativeError).Take(WorstShown))
        {
            table.AddRow(Markup.Escape(tensor.Path), $"{tensor.Shape[0]} × {tensor.Shape[1]}", $"{tensor.RelativeError:P2}", $"{tensor.LargestError:G3}", $"{tensor.BitsPerWeight:F3}");
        }

        table.Write(Output.Human);
        Output.Text.WriteLine($"{report.Tensors.Count} matrices: {report.BitsPerWeight:F3} bits per weight with scales, relative error {report.RelativeError:P2}");
        Output.Text.WriteLine($"{Sizes.Text(report.BytesBefore)} → {Sizes.Text(report.BytesAfter)} ({report.BitsPerParameter:F3} bits per parameter), {result.Seconds:F2} s, {result.QuantizationSeconds:F2} s of them in the method");
        Output.Text.WriteLine("seconds: " + string.Join(", ", result.Phases.OrderByDescending(phase => phase.Value).Select(phase => $"{phase.Key} {phase.Value:F2}")));
        Coverage(report.Calibration);
        if (result.DevicePeakMemoryBytes is { } peak)
        {
            Output.Text.WriteLine($"{result.Device}: {Sizes.Text(peak)} of its memory at most" + (result.EnergyJoules is { } joules ? $", {joules:F0} J ({result.EnergyNote})" : string.Empty));
        }

        if (verified)
        {
            Output.Text.WriteLine("verified: all codes and scales read back equal in a fresh process");
        }

        Output.Text.WriteLine(Line(result.Certificate));
        Output.Text.WriteLine($"written: {output}");
    }

    /// <summary>A certificate in one line.</summary>
    public static string Line(Certificate certificate) =>
        $"certificate: largest logit difference {certificate.LargestLogitDifference:G4} of a range of {certificate.LogitRange:G4}, same best token at {certificate.SameBest} of {certificate.Prompt.Count} positions";

    /// <summary>A certificate for a result document.</summary>
    public static object Document(Certificate certificate) => new
    {
        certificate.SourceSha256,
        certificate.OutputSha256,
        certificate.LargestLogitDifference,
        certificate.LogitRange,
        certificate.SameBest,
        Positions = certificate.Prompt.Count,
    };

    private static void Coverage(CalibrationRecord? record)
    {
        if (record is null || record.Coverage.Count == 0)
        {
            return;
        }

        Output.Text.WriteLine($"calibrated on {record.Coverage.Min(layer => layer.Tokens):N0} tokens a layer ({record.Samples} samples of {record.Length})");
        foreach (LayerCoverage layer in record.Coverage.Where(layer => layer.DeadInputs > 0).OrderByDescending(layer => layer.DeadInputs).Take(WorstShown))
        {
            Output.Text.WriteLine($"{layer.Path}: {layer.DeadInputs:N0} inputs were zero in every sample; their columns became zero");
        }

        foreach (LayerCoverage layer in record.Coverage.Where(layer => layer.RaisedDamping is not null).Take(WorstShown))
        {
            Output.Text.WriteLine($"{layer.Path}: its Hessian needed a damping of {layer.RaisedDamping:G3}");
        }
    }

    /// <summary>The result document.</summary>
    public static object Document(string model, string output, QuantizationResult result, bool verified)
    {
        QuantizationReport report = result.Report;
        return new
        {
            Schema = 1,
            Model = model,
            Output = output,
            report.Method,
            report.Bits,
            report.Settings,
            report.Layout,
            result.Device,
            report.Calibration,
            result.EnergyNote,
            Certificate = Document(result.Certificate),
            Verified = verified ? true : (bool?)null,
            Metrics = new
            {
                report.BitsPerWeight,
                report.BitsPerParameter,
                report.BytesBefore,
                report.BytesAfter,
                FileBytes = new DirectoryInfo(output).EnumerateFiles("*.safetensors").Sum(file => file.Length),
                report.RelativeError,
                result.QuantizationSeconds,
                result.Seconds,
                PhaseSeconds = result.Phases,
                result.EnergyJoules,
                result.DevicePeakMemoryBytes,
            },
            report.Kept,
            report.Tensors,
        };
    }
}
