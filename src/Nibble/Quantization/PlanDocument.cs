namespace Nibble.Quantization;

/// <summary>A plan as it is printed and saved.</summary>
/// <param name="Schema">Version of the form.</param>
/// <param name="ModelType">The architecture.</param>
/// <param name="Layout">How quantized weights are stored.</param>
/// <param name="Tensors">Every matrix.</param>
public sealed record PlanDocument(int Schema, string ModelType, string Layout, IReadOnlyList<PlanDocumentTensor> Tensors);

/// <summary>What a plan does with one matrix.</summary>
/// <param name="Path">Module path.</param>
/// <param name="Shape"><c>[out, in]</c>.</param>
/// <param name="Role">What it is for: block, head, embedding.</param>
/// <param name="Method">The method, or <c>none</c>.</param>
/// <param name="Bits">Bits of a code; absent where it stays dense.</param>
/// <param name="Settings">The method's other settings; absent where it stays dense.</param>
/// <param name="Reason">Why.</param>
public sealed record PlanDocumentTensor(string Path, long[] Shape, string Role, string Method, int? Bits, IReadOnlyDictionary<string, object>? Settings, string Reason);

/// <summary>The document <see cref="QuantizationReport.FileName"/>.</summary>
internal sealed record QuantizationRecord(QuantizationReport Report, PlanDocument Plan);
