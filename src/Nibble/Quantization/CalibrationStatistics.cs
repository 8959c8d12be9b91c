namespace Nibble.Quantization;

/// <summary>What calibration learned about the inputs of one linear layer; methods that need none ignore it.</summary>
/// <param name="Tokens">Rows of activations that were seen.</param>
public record CalibrationStatistics(long Tokens);
