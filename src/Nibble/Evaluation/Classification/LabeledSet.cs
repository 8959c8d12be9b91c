namespace Nibble.Evaluation.Classification;

/// <summary>A text and the number of its class.</summary>
/// <param name="Text">The text.</param>
/// <param name="Label">Class, from 0.</param>
public readonly record struct LabeledText(string Text, int Label);

/// <summary>Texts with classes: what a classification is measured on.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Labels">Names of the classes, in order.</param>
/// <param name="Rows">The texts.</param>
/// <param name="Fingerprint">SHA-256 of all texts and labels.</param>
public sealed record LabeledSet(string Name, IReadOnlyList<string> Labels, IReadOnlyList<LabeledText> Rows, string Fingerprint);
