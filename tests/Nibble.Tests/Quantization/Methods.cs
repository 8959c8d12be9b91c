using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>Every data-free method with the settings that tests run through, named by their text.</summary>
internal static class Methods
{
    public static IReadOnlyList<QuantizationSettings> DataFree { get; } = [.. Create()];

    public static QuantizationSettings Complete(string text) =>
        DataFree.FirstOrDefault(settings => settings.ToString() == text) ?? Registry.Method(text).Complete(new() { Method = text });

    public static QuantizedWeight Quantize(Tensor weight, string text)
    {
        QuantizationSettings settings = Complete(text);
        return Registry.Method(settings.Method).Quantize("test", weight, settings);
    }

    public static QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings) => Registry.Method(settings.Method).Quantize("test", weight, settings);

    public static Tensor Input(int rows, int columns, ulong seed) =>
        Tensor.From<float>(new Shape(rows, columns), DType.F32, GoldenWeights.Values(rows * columns, seed));

    /// <summary>Largest possible error as a share of the largest magnitude in the matrix.</summary>
    public static double Bound(WeightFacts facts) => facts switch
    {
        // Half of the widest gap of the table, and what double quantization may do to a scale.
        { Kind: WeightKind.Codebook } => 0.17 + (facts.Nested ? 0.1 : 0),
        { Kind: WeightKind.Ternary } => 1,
        // The solver may move a zero by more than a step to win on most weights.
        { WholeOffsets: false, Form: AffineForm.ZeroPoint } => 5.0 / ((1 << facts.Bits) - 1),
        // Half a step; symmetric grids cut the positive end off by half a step more, a scale in 16 bits moves it a little.
        _ => (facts.Symmetric ? 2.0 : 1.02) / ((1 << facts.Bits) - 1) * 1.02,
    };

    private static IEnumerable<QuantizationSettings> Create()
    {
        List<QuantizationSettings> all =
        [
            new() { Method = "int8" },
            new() { Method = "quanto", Bits = 8 }, new() { Method = "quanto", Bits = 4 }, new() { Method = "quanto", Bits = 2 },
            new() { Method = "quanto", Bits = 4, ScaleDType = DType.BF16 },
            new() { Method = "ternary" }, new() { Method = "ternary", GroupSize = QuantizationSettings.WholeRow, ScaleDType = DType.BF16 },
            new() { Method = "rtn", Bits = 4, GroupSize = QuantizationSettings.WholeRow }, new() { Method = "rtn", Bits = 4, ScaleDType = DType.F32 },
            new() { Method = "rtn", Bits = 3, GroupSize = 20, ScaleDType = DType.BF16 }, new() { Method = "rtn", Bits = 5, Symmetric = true },
        ];
        all.AddRange(
        [
            new() { Method = "hqq" }, new() { Method = "hqq", Axis = 0 }, new() { Method = "hqq", Bits = 8 }, new() { Method = "hqq", Bits = 3, GroupSize = 32 },
            new() { Method = "hqq", Bits = 3, Axis = 0, GroupSize = 32, ScaleDType = DType.F32 }, new() { Method = "hqq", Bits = 2, GroupSize = 16 },
            new() { Method = "hqq", Bits = 1, GroupSize = 8, ScaleDType = DType.BF16 },
        ]);
        all.AddRange(new[] { 8, 4, 3, 2 }.SelectMany(bits => new[] { true, false }.Select(symmetric => new QuantizationSettings { Method = "rtn", Bits = bits, Symmetric = symmetric })));
        foreach (string method in new[] { "nf4", "fp4" })
        {
            all.AddRange(new[] { 32, 64, 128, 4096 }.SelectMany(block => new[] { true, false }.Select(nested => new QuantizationSettings { Method = method, BlockSize = block, DoubleQuant = nested })));
        }

        return all.Select(settings => Registry.Method(settings.Method).Complete(settings)).DistinctBy(settings => settings.ToString());
    }
}
