namespace Nibble.Quantization;

/// <summary>What became of one matrix.</summary>
/// <param name="Path">Module path.</param>
/// <param name="Shape"><c>[out, in]</c>.</param>
/// <param name="Method">The method.</param>
/// <param name="Bits">Bits of a code.</param>
/// <param name="Settings">The other settings.</param>
/// <param name="BitsPerWeight"><see cref="WeightFacts.StoredBits"/> and those of a repair, by the matrix's elements.</param>
/// <param name="RelativeError">‖W − Ŵ‖ / ‖W‖, Frobenius.</param>
/// <param name="LargestError">Largest difference of an element.</param>
/// <param name="Digest">SHA-256 of codes and scales: what <c>--verify</c> compares.</param>
public sealed record QuantizedTensorReport(
    string Path,
    long[] Shape,
    string Method,
    int Bits,
    IReadOnlyDictionary<string, object> Settings,
    double BitsPerWeight,
    double RelativeError,
    double LargestError,
    string Digest);

/// <summary>What a quantization was calibrated on.</summary>
/// <param name="Data">Name of the text, without folders.</param>
/// <param name="Samples">Number of samples.</param>
/// <param name="Length">Tokens of a sample.</param>
/// <param name="Seed">Which windows of the text became samples.</param>
/// <param name="LayersWithDeadInputs">Layers that had inputs which were zero in every sample.</param>
public sealed record CalibrationRecord(string Data, int Samples, int Length, int Seed, int LayersWithDeadInputs)
{
    /// <summary>Dtype of hidden states between blocks, if not F32.</summary>
    public string? States { get; init; }

    /// <summary>What each calibrated layer saw.</summary>
    public IReadOnlyList<LayerCoverage> Coverage { get; init; } = [];
}

/// <summary>What a calibrated layer saw.</summary>
/// <param name="Path">Module path.</param>
/// <param name="Tokens">Rows of inputs.</param>
/// <param name="DeadInputs">Inputs that were zero in every row: nothing is known about their weights.</param>
public sealed record LayerCoverage(string Path, long Tokens, int DeadInputs)
{
    /// <summary>The damping that its Hessian needed, if more than was asked for.</summary>
    public double? RaisedDamping { get; init; }
}

/// <summary>Factors that moved from the inputs of layers into their weights (AWQ), or why none did.</summary>
/// <param name="Source">The norm or layer before, which was divided.</param>
/// <param name="Layers">The layers whose columns were multiplied.</param>
/// <param name="Ratio">Exponent of the activations' magnitudes; 0 without <paramref name="Duo"/>: all factors are 1.</param>
/// <param name="Duo">Divided by the weights' magnitudes as well.</param>
/// <param name="ErrorShare">Squared error of the layers' outputs after rounding, as a share of that without factors.</param>
/// <param name="Skipped">Why no factor moved.</param>
public sealed record ScalingRecord(string Source, IReadOnlyList<string> Layers, double? Ratio, bool? Duo, double? ErrorShare, string? Skipped = null);

/// <summary>
/// The record of a quantization, saved beside the model as <see cref="FileName"/>. It holds no times and no paths of this machine, so
/// that the same work gives the same bytes.
/// </summary>
public sealed record QuantizationReport
{
    /// <summary>Its name in the model's folder.</summary>
    public const string FileName = "nibble_quantization.json";

    /// <summary>Version of this document.</summary>
    public int Schema { get; init; } = 1;

    /// <summary>The architecture.</summary>
    public required string ModelType { get; init; }

    /// <summary>The method of the blocks' matrices.</summary>
    public required string Method { get; init; }

    /// <summary>Bits of its codes.</summary>
    public required int Bits { get; init; }

    /// <summary>Its other settings.</summary>
    public required IReadOnlyDictionary<string, object> Settings { get; init; }

    /// <summary>How the weights are stored.</summary>
    public required string Layout { get; init; }

    /// <summary>What it was calibrated on; absent for data-free methods.</summary>
    public CalibrationRecord? Calibration { get; init; }

    /// <summary>Which factors moved between layers; absent for methods that move none.</summary>
    public IReadOnlyList<ScalingRecord>? Scaling { get; init; }

    /// <summary>Norms and biases that were divided (AWQ), with a SHA-256 of their values: what <c>--verify</c> compares; absent where none changed.</summary>
    public IReadOnlyDictionary<string, string>? ChangedVectors { get; init; }

    /// <summary>True bits per weight of the quantized matrices, scales and tables included.</summary>
    public double BitsPerWeight { get; init; }

    /// <summary>Bits per parameter of the whole model, dense tensors included.</summary>
    public double BitsPerParameter { get; init; }

    /// <summary>Bytes of all tensors before.</summary>
    public long BytesBefore { get; init; }

    /// <summary>Bytes of all tensors after.</summary>
    public long BytesAfter { get; init; }

    /// <summary>√(Σ‖W − Ŵ‖² / Σ‖W‖²) over the quantized matrices, from their relative errors and norms.</summary>
    public double RelativeError { get; init; }

    /// <summary>Matrices that stay dense.</summary>
    public required IReadOnlyList<string> Kept { get; init; }

    /// <summary>The quantized matrices.</summary>
    public required IReadOnlyList<QuantizedTensorReport> Tensors { get; init; }
}
