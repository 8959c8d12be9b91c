using System.Globalization;
using System.Security.Cryptography;
using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Budget;
using Nibble.Quantization.Calibration;

namespace Nibble.Runs.Studies;

/// <summary>One cell of a study: a model, run one way, measured.</summary>
/// <param name="Model">The model.</param>
/// <param name="Method">The way.</param>
/// <param name="Arguments">Arguments of <c>nibble</c> that measure it, without those that name baseline folders.</param>
/// <param name="Key">Hash of everything that its numbers depend on: a finished cell with this key need not run again.</param>
/// <param name="Estimate">What it will take, roughly.</param>
public sealed record StudyCell(StudyModel Model, StudyMethod Method, IReadOnlyList<string> Arguments, string Key, CellEstimate Estimate)
{
    /// <summary>For progress: model and method.</summary>
    public string Title => $"{Model.Name}, {Method.Label}";

    /// <summary>
    /// The arguments of <c>nibble</c> that quantize the model first, without the output; empty where it is quantized while it loads. The
    /// folder they make then stands in the place of the model.
    /// </summary>
    public IReadOnlyList<string> Preparation { get; init; } = [];

    /// <summary>The arguments of <c>nibble</c> that make the folder of a calibrated cell; empty for all others.</summary>
    public static IReadOnlyList<string> PreparationFor(Study study, StudyModel model, StudyMethod method)
    {
        if (!method.NeedsCalibration)
        {
            return [];
        }

        CalibrationRequest calibration = study.Calibration;
        return
        [
            "quantize", model.Path, .. method.Budget is { } budget ? [BudgetArgument(budget)] : MethodArguments(method.Settings!), Argument("--data", calibration.Data), Argument("--samples", calibration.Samples),
            .. calibration.Length is { } length ? [Argument("--sample-length", length)] : Array.Empty<string>(), Argument("--seed", calibration.Seed),
            // Only a card is named: the processor is what quantize takes by itself, and keys of finished cells stay.
            .. study.Device.StartsWith("cuda", StringComparison.Ordinal) ? [Argument("--device", study.Device)] : Array.Empty<string>(),
            .. study.Threads is { } threads ? [Argument("--threads", threads)] : Array.Empty<string>(),
        ];
    }

    /// <summary>The arguments of <c>nibble</c> that write a model in a cell's form, without the output; empty for a dense one.</summary>
    public static IReadOnlyList<string> QuantizeFor(Study study, StudyModel model, StudyMethod method) =>
        method.NeedsCalibration ? PreparationFor(study, model, method) : method.Settings is { } settings ? ["quantize", model.Path, .. MethodArguments(settings)] : [];

    /// <summary>The arguments of <c>nibble</c> that measure one cell.</summary>
    public static IReadOnlyList<string> ArgumentsFor(Study study, StudyModel model, StudyMethod method)
    {
        EvaluationOptions tasks = study.Tasks;
        List<string> arguments = ["eval", model.Path, "--tasks", string.Join(',', tasks.Tasks), "--data", tasks.Data];
        if (tasks.Tasks.Contains("perplexity"))
        {
            Add("--protocol", tasks.Protocol);
            Add("--window", tasks.Window);
            Add("--stride", tasks.Stride);
            Add("--join", tasks.Join?.ToString().ToLowerInvariant());
            Add("--limit", tasks.Limit);
            Add("--country", tasks.Country);
        }

        if (tasks.Tasks.Contains("classification"))
        {
            Add("--split", tasks.Split);
            Add("--rows", tasks.Rows);
            Add("--prompt-template", tasks.PromptTemplate);
        }

        if (tasks.Tasks.Contains("latency"))
        {
            Add("--prompt-tokens", tasks.PromptTokens);
            Add("--decode-tokens", tasks.DecodeTokens);
            Add("--runs", tasks.Runs);
        }

        Add("--adapter", model.Adapter);
        Add("--dtype", method.Dtype);
        if (method is { Settings: { } settings, NeedsCalibration: false })
        {
            arguments.AddRange(MethodArguments(settings));
        }

        Add("--activations", method.Activations);
        Add("--device", study.Device);
        Add("--threads", study.Threads);
        Add("--seed", tasks.Seed);
        return arguments;

        void Add(string flag, object? value)
        {
            if (value is not null)
            {
                arguments.Add(Argument(flag, value));
            }
        }
    }

    // With '=', a negative number is not taken for an option.
    private static string Argument(string flag, object value) => $"{flag}={Convert.ToString(value, CultureInfo.InvariantCulture)}";

    private static string BudgetArgument(BudgetRequest budget) =>
        budget.BitsPerWeight is { } bits ? Argument("--budget", bits) : Argument("--max-bytes", budget.MaxBytes!.Value);

    private static IEnumerable<string> MethodArguments(QuantizationSettings settings)
    {
        yield return Argument("--method", settings.Method);
        if (settings.Bits is { } bits)
        {
            yield return Argument("--bits", bits);
        }

        foreach ((string name, object value) in settings.ToDocument())
        {
            yield return name == "symmetric" ? (value is true ? "--symmetric" : "--asymmetric")
                : Argument("--" + name.Replace('_', '-'), value is bool set ? set ? "true" : "false" : value);
        }
    }

    /// <summary>The key of a cell: arguments, content of the model and of the text, kernels, version of Nibble.</summary>
    /// <param name="arguments">Arguments of the cell.</param>
    /// <param name="baseline">Arguments of the cell that it is compared with; null for none.</param>
    /// <param name="model">Fingerprint of the model.</param>
    /// <param name="text">Fingerprint of the text.</param>
    public static string KeyOf(IReadOnlyList<string> arguments, IReadOnlyList<string>? baseline, string model, string text)
    {
        CellKey everything = new(
            1, arguments, baseline, model, text, Environment.GetEnvironmentVariable(Backends.Cpu.CpuVariant.EnvironmentVariable), Environment.GetEnvironmentVariable("NIBBLE_THREADS"),
            EnvironmentFacts.Read().Nibble);
        return Convert.ToHexStringLower(SHA256.HashData(DocumentJson.Bytes(everything, DocumentJson.Plain)))[..24];
    }
}

/// <summary>Everything that the numbers of a cell depend on.</summary>
internal sealed record CellKey(
    int Form, IReadOnlyList<string> Arguments, IReadOnlyList<string>? Baseline, string Model, string Text, string? Kernels, string? Threads, string Nibble);
