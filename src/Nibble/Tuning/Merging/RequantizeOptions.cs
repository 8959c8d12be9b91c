namespace Nibble.Tuning.Merging;

/// <summary>A merge of an adapter back into the format of its quantized base.</summary>
/// <param name="Model">Folder of the quantized base.</param>
/// <param name="Adapter">Folder of the adapter.</param>
/// <param name="Data">Text or rows of the task: its inputs weigh the errors, and a part of it measures the result.</param>
/// <param name="Output">Folder to write.</param>
public sealed record RequantizeOptions(string Model, string Adapter, string Data, string Output)
{
    /// <summary>Rows that measure the result; null sets every eighth row of <see cref="Data"/> aside for it.</summary>
    public string? EvalData { get; init; }

    /// <summary>Folder for a LoRA adapter of what rounding takes away; null writes none.</summary>
    public string? Remainder { get; init; }

    /// <summary>Its rank.</summary>
    public int RemainderRank { get; init; } = 8;

    /// <summary>Calibration samples; null: 128, or as many as the data has.</summary>
    public int? Samples { get; init; }

    /// <summary>Tokens of a sample and of a measured row; null: 512, or the model's context if that is shorter.</summary>
    public int? Length { get; init; }

    /// <summary>Which windows of the data become samples.</summary>
    public int Seed { get; init; } = 1234;

    /// <summary>Threads; null for all.</summary>
    public int? Threads { get; init; }

    /// <summary>Replace an existing output folder.</summary>
    public bool Force { get; init; }
}
