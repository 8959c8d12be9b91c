using System.Globalization;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Budget;
using Nibble.Runs.Studies;

namespace Nibble.Runs.Recommending;

/// <summary>The forms of a model that are worth measuring: at each number of bits the methods that won somewhere in docs/methods.md, with their usual groups.</summary>
internal static class Candidates
{
    // A plan of mixed bits pays where whole bits leave room, and below 2.5 bits nothing that is not trained is usable.
    private const double LeastBudget = 2.5, MostBudget = 6.5, BudgetStep = 0.25;

    // In the order in which they are given up when time is short, the last first.
    private static readonly QuantizationSettings[] Ladder =
    [
        new() { Method = "gptq", Bits = 4, GroupSize = 128 },
        new() { Method = "rtn", Bits = 8 },
        new() { Method = "nf4", DoubleQuant = true },
        new() { Method = "gptq", Bits = 3, GroupSize = 64 },
        new() { Method = "awq", Bits = 4, GroupSize = 128 },
        new() { Method = "int8" },
        new() { Method = "hqq", Bits = 4, GroupSize = 64 },
        new() { Method = "awq", Bits = 3, GroupSize = 64 },
        new() { Method = "gptq", Bits = 2, GroupSize = 32 },
    ];

    /// <summary>The model's own form, which everything is compared with.</summary>
    public static StudyMethod Own(RecommendRequest request) => new("as it is", null, null, request.Activations, IsBaseline: true);

    /// <summary>All others, the most promising first.</summary>
    public static IReadOnlyList<StudyMethod> Others(RecommendRequest request) =>
        [.. Ladder.Select(settings => Registry.Method(settings.Method).Complete(settings)).Select(settings => new StudyMethod(Label(settings), settings, null, request.Activations, IsBaseline: false))];

    /// <summary>A plan of method and bits for every matrix that fills what the memory leaves for blocks; null where it leaves room for more than the ladder's, or too little.</summary>
    public static StudyMethod? Budget(ModelSizes sizes, RunningMemory own, long denseBytes, RecommendRequest request)
    {
        double room = request.MemoryBytes - (own.TotalBytes - own.WeightBytes) - denseBytes;
        double bits = Math.Floor(8 * room / sizes.Parameters.Blocks / BudgetStep) * BudgetStep;
        return bits is < LeastBudget or > MostBudget
            ? null
            : new StudyMethod(string.Create(CultureInfo.InvariantCulture, $"budget of {bits:0.##} bits"), null, null, request.Activations, IsBaseline: false) { Budget = new BudgetRequest { BitsPerWeight = bits } };
    }

    private static string Label(QuantizationSettings settings) => settings.Method switch
    {
        "int8" => "LLM.int8",
        "nf4" => "NF4 + double quantization",
        string method => $"{method.ToUpperInvariant()} {settings.Bits} bit, {(settings.GroupSize == QuantizationSettings.WholeRow ? "whole rows" : $"group {settings.GroupSize}")}",
    };
}
