using Nibble.Backends;
using Nibble.Quantization.Awq;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>A quantized matrix as a device made it, with its error.</summary>
/// <param name="Weight">Codes and scales on the host; the caller disposes it.</param>
/// <param name="Error">How far it is from the dense matrix: what <see cref="WeightError.Of(Tensor, QuantizedWeight)"/> gives, bit for bit.</param>
internal readonly record struct MadeWeight(QuantizedWeight Weight, WeightError Error);

/// <summary>A layer's matrix as a device made it.</summary>
/// <param name="Made">The weight and its error.</param>
/// <param name="Values">What its codes stand for, ready for products on the device; the caller disposes it.</param>
internal readonly record struct MadeLayer(MadeWeight Made, IPackedWeight Values);

/// <summary>A device that runs quantization methods itself. Codes and scales are those of the method on the processor, where a method's card says so.</summary>
internal interface IMatrixQuantizer
{
    /// <summary>Where to book the seconds of <see cref="Quantize"/>: <c>transfer</c> (both ways) and <c>kernels</c>; the device is waited for between the two.</summary>
    PhaseTimes? Times { get; set; }

    /// <summary>Quantizes a matrix.</summary>
    /// <param name="name">Its name, for error messages.</param>
    /// <param name="weight">F32, F16 or BF16 <c>[out, in]</c> on the host; NaN and infinity are refused.</param>
    /// <param name="settings">Complete settings.</param>
    /// <param name="statistics">What calibration learned about the inputs; null without calibration.</param>
    MadeWeight Quantize(string name, Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics = null);

    /// <summary>The same for a dense matrix that stands on the device already.</summary>
    MadeLayer QuantizeLayer(string name, IPackedWeight dense, QuantizationSettings settings, CalibrationStatistics? statistics);

    /// <summary>The values of a weight that was made before, exactly as <see cref="QuantizeLayer"/> gives them.</summary>
    IPackedWeight Values(QuantizedWeight weight);

    /// <summary>
    /// For training through a quantizer: <paramref name="target"/> becomes w + share·(ŵ − w), where w is <paramref name="master"/> and ŵ what a method that needs no
    /// calibration makes of it. False if one of the two does not stand on the device as F32.
    /// </summary>
    bool TryRound(string name, IPackedWeight master, QuantizationSettings settings, float share, IPackedWeight target);

    /// <summary>Answers AWQ's search about dense layers that share an input; statistics are those of <see cref="Collect"/>.</summary>
    IScaleErrors ScaleErrors(IReadOnlyList<(IPackedWeight Dense, WeightFacts Facts)> layers, GramStatistics statistics);

    /// <summary>Starts statistics of inputs that stay on the device until they are disposed.</summary>
    IGramCollector Collect(int columns, PhaseTimes? times);
}
