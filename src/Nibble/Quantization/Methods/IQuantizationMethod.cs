using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>An algorithm that decides which numbers: a dense matrix and settings in, a quantized weight out. Deterministic.</summary>
public interface IQuantizationMethod
{
    /// <summary>Name on the command line and in results.</summary>
    string Name { get; }

    /// <summary>One line about what it does.</summary>
    string Summary { get; }

    /// <summary>Bits per code that it can make.</summary>
    IReadOnlyList<int> SupportedBits { get; }

    /// <summary>True if <see cref="Quantize"/> needs statistics of the layer's inputs.</summary>
    bool NeedsCalibration { get; }

    /// <summary>True if factors are moved into the weights' columns before <see cref="Quantize"/>, where the architecture has a place for them.</summary>
    bool ScalesInputs => false;

    /// <summary>
    /// Fills in the defaults of everything that was not chosen, and refuses what this method does not take or cannot do.
    /// </summary>
    /// <exception cref="IO.NibbleException">A usage error that lists what is possible.</exception>
    QuantizationSettings Complete(QuantizationSettings settings);

    /// <summary>Defaults that depend on the model: called before <see cref="Complete"/> where the model is known.</summary>
    /// <param name="settings">What was chosen.</param>
    /// <param name="stored">Dtype of the model's dense weights.</param>
    QuantizationSettings ForModel(QuantizationSettings settings, DType stored) => settings;

    /// <summary>The layout that its weights are saved in unless another one is asked for.</summary>
    string PreferredLayout { get; }

    /// <summary>What <see cref="Quantize"/> will make of a matrix, known before any work.</summary>
    /// <param name="settings">Complete settings.</param>
    /// <param name="outFeatures">Rows.</param>
    /// <param name="inFeatures">Columns.</param>
    WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures);

    /// <summary>Quantizes a matrix.</summary>
    /// <param name="name">Its name, for error messages.</param>
    /// <param name="weight">F32 <c>[out, in]</c> on the host; NaN and infinity are refused.</param>
    /// <param name="settings">Complete settings.</param>
    /// <param name="statistics">What calibration learned about the inputs; null without calibration.</param>
    QuantizedWeight Quantize(string name, Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics = null);
}
