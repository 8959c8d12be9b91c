using Nibble.Evaluation;
using Nibble.Quantization;
using Nibble.Quantization.Budget;
using Nibble.Quantization.Calibration;

namespace Nibble.Runs.Studies;

/// <summary>A model of a study.</summary>
/// <param name="Name">How tables call it.</param>
/// <param name="Path">Its folder.</param>
/// <param name="Adapter">Folder of a PEFT adapter that is put on it; null for none.</param>
public sealed record StudyModel(string Name, string Path, string? Adapter = null)
{
    /// <summary>What is done before anything is measured, each step with the result of the one before: trainings, quantizations, merges.</summary>
    public IReadOnlyList<StudyStep> Steps { get; init; } = [];

    /// <summary>Labels of the methods that this model is run with; null for all.</summary>
    public IReadOnlyList<string>? Methods { get; init; }

    /// <summary>True if the model is run with this method.</summary>
    public bool Takes(StudyMethod method) => Methods?.Contains(method.Label) != false;
}

/// <summary>One step of a model's preparation.</summary>
/// <param name="Verb"><c>finetune</c>, <c>quantize</c> or <c>merge</c>.</param>
/// <param name="Options">Arguments of <c>nibble</c> without model, adapter and output.</param>
/// <param name="Data">Files and folders among them.</param>
public sealed record StudyStep(string Verb, IReadOnlyList<string> Options, IReadOnlyList<string> Data);

/// <summary>A way to run a model.</summary>
/// <param name="Label">How tables call it.</param>
/// <param name="Settings">Quantization; null for a dense model.</param>
/// <param name="Dtype">Dtype of dense matrices: f32, bf16, f16; null as stored.</param>
/// <param name="Activations">f32, int8, auto or bf16.</param>
/// <param name="IsBaseline">True for the one that all others are compared with.</param>
public sealed record StudyMethod(string Label, QuantizationSettings? Settings, string? Dtype, string Activations, bool IsBaseline)
{
    /// <summary>Name of a cell whose plan a budget makes.</summary>
    public const string BudgetName = "budget";

    /// <summary>How large the model may be, where a budget chooses method and bits of each matrix; <see cref="Settings"/> is null then.</summary>
    public BudgetRequest? Budget { get; init; }

    /// <summary>Name of the method, <c>none</c> for a dense model.</summary>
    public string Method => Budget is not null ? BudgetName : Settings?.Method ?? "none";

    /// <summary>True if it looks at the inputs of layers: such a cell quantizes a folder first, then measures that.</summary>
    public bool NeedsCalibration => Budget is not null || Settings?.NeedsText == true;
}

/// <summary>Models × methods × tasks, and everything that is the same for all cells.</summary>
/// <param name="Name">Name of the study.</param>
/// <param name="Description">What it is for.</param>
/// <param name="File">The file that it was read from.</param>
/// <param name="Models">Models.</param>
/// <param name="Methods">Ways to run each of them.</param>
/// <param name="Tasks">What is measured; the load options and baseline folders are filled in for each cell.</param>
/// <param name="Device">Device.</param>
/// <param name="Threads">Threads; null for all.</param>
public sealed record Study(
    string Name, string? Description, string File, IReadOnlyList<StudyModel> Models, IReadOnlyList<StudyMethod> Methods,
    EvaluationOptions Tasks, string Device, int? Threads)
{
    /// <summary>The text for methods that look at the inputs of layers.</summary>
    public CalibrationRequest Calibration { get; init; } = new("demo");
}
