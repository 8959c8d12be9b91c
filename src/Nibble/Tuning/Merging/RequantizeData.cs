using Nibble.Data;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Calibration;

namespace Nibble.Tuning.Merging;

/// <summary>The data of a merge: samples for the Hessians, and rows that nothing but the measurement sees.</summary>
/// <param name="Samples">Token sequences of one length.</param>
/// <param name="HeldOut">Rows for the measurement.</param>
internal sealed record RequantizeData(IReadOnlyList<int[]> Samples, TrainingSet HeldOut)
{
    private const int UsualSamples = 128, UsualLength = 512, HeldOutEvery = 8;

    public static RequantizeData Read(RequantizeOptions options, LoadedModel model)
    {
        int length = options.Length ?? Math.Min(UsualLength, model.Facts.Context);
        if (length > model.Facts.Context)
        {
            Throw.Usage($"samples of {length} tokens are too long", $"the model's context is {model.Facts.Context}", $"use --sample-length {model.Facts.Context} or less");
        }

        TrainingSet all = TrainingSetReader.Read(options.Data, model.Tokenizer, length);
        TrainingSet heldOut = options.EvalData is null ? all with { Rows = Every(all.Rows, held: true) } : TrainingSetReader.Read(options.EvalData, model.Tokenizer, length);
        IReadOnlyList<TrainingRow> rest = options.EvalData is null ? Every(all.Rows, held: false) : all.Rows;
        if (heldOut.Rows.Count == 0)
        {
            Throw.BadInput(
                $"{options.Data} is too short to set rows aside: {all.Rows.Count} rows of up to {length} tokens",
                $"every {HeldOutEvery}th row measures the result, so at least {HeldOutEvery} are needed",
                "give more data, a smaller --sample-length, or rows of their own with --eval-data");
        }

        int[] stream = [.. rest.SelectMany(row => row.Ids)];
        int samples = options.Samples ?? Math.Clamp(stream.Length / length, 1, UsualSamples);
        return new RequantizeData(CalibrationSamples.Choose(stream, samples, length, options.Seed), heldOut);
    }

    private static TrainingRow[] Every(IReadOnlyList<TrainingRow> rows, bool held) =>
        [.. rows.Where((_, i) => i % HeldOutEvery == HeldOutEvery - 1 == held)];
}
