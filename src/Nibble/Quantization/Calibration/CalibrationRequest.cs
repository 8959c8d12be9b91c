using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Models;
using Nibble.Templates;
using Nibble.Tensors;
using Nibble.Tokenization;

namespace Nibble.Quantization.Calibration;

/// <summary>On which text a quantization is calibrated.</summary>
/// <param name="Data">Any data that can be trained on (of data with splits the training split), or <c>demo</c>: the calibration split that ships with Nibble.</param>
public sealed record CalibrationRequest(string Data)
{
    /// <summary>Number of samples.</summary>
    public int Samples { get; init; } = 128;

    /// <summary>Tokens of a sample; null: 512, or the model's context if that is shorter.</summary>
    public int? Length { get; init; }

    /// <summary>Which windows of the text become samples.</summary>
    public int Seed { get; init; } = 1234;

    /// <summary>Bytes that hidden states and intermediates may take; hidden states beyond it go to a temporary file. Results do not depend on it.</summary>
    public long MemoryBytes { get; init; } = 4L << 30;

    /// <summary>Dtype of hidden states between blocks, F32 or BF16: BF16 takes half of the memory, and rounds what the next block sees.</summary>
    public DType States { get; init; } = DType.F32;

    /// <summary>The samples for a model.</summary>
    /// <exception cref="NibbleException">The text is too short; the message says how much is missing.</exception>
    public IReadOnlyList<int[]> Choose(LoadedModel model) => Choose(model.Facts, () => model.Tokenizer, model.Path);

    /// <summary>The same for a model that is not loaded, in a folder.</summary>
    internal IReadOnlyList<int[]> Choose(ModelFacts facts, Func<Tokenizer> tokenizer, string folder, Action<string>? note = null)
    {
        const int usual = 512;
        int length = Length ?? Math.Min(usual, facts.Context);
        if (length > facts.Context)
        {
            Throw.Usage($"calibration samples of {length} tokens are too long", $"the model's context is {facts.Context}", $"use --sample-length {facts.Context} or less");
        }

        Lazy<ChatTemplate?> template = new(() => ChatTemplate.Find(folder));
        EvaluationText text = CalibrationText.Load(Data, () => template.Value, note);
        return CalibrationSamples.Choose(tokenizer().Encode(string.Join("\n\n", text.Documents)), Samples, length, Seed);
    }
}
