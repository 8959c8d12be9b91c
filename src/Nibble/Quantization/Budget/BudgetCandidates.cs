using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Quantization.Budget;

/// <summary>The ways in which a matrix may be stored within a budget: widths and groups of a method, as far as the layout holds them.</summary>
internal sealed class BudgetCandidates
{
    private static readonly int[] Groups = [32, 64, 128, QuantizationSettings.WholeRow];

    private readonly QuantizationSettings[] _methods;
    private readonly IQuantizationLayout _layout;

    /// <summary>Candidates with the settings that a user fixed; without a method, GPTQ where it has the width and rtn for the others.</summary>
    public BudgetCandidates(QuantizationSettings? chosen, IQuantizationLayout layout)
    {
        if (chosen?.Bits is { } bits)
        {
            Throw.Usage($"--bits {bits} and a budget exclude each other", "the budget chooses the bits of each matrix", "leave --bits out");
        }

        if (chosen?.RepairRank is not null)
        {
            Throw.Usage("--repair-rank and a budget exclude each other", "a budget spends bytes on codes", "leave one of them out");
        }

        _methods = chosen is not null ? [Ordered(chosen)] : [Ordered(new QuantizationSettings { Method = "gptq" }), new QuantizationSettings { Method = "rtn" }];
        _layout = layout;
        if (chosen is not null && Registry.Method(chosen.Method).SupportedBits.Count(width => width >= 2) < 2)
        {
            Throw.Usage(
                $"method {chosen.Method} has one width: there is nothing to choose within a budget",
                $"methods with several are {string.Join(", ", Registry.Methods.Where(method => method.SupportedBits.Count > 1).Select(method => method.Name))}",
                "leave --method out");
        }
    }

    /// <summary>
    /// GPTQ takes columns by falling energy, in groups of columns that stand side by side: no byte more than without, and less error. Another choice of the user stays.
    /// </summary>
    private static QuantizationSettings Ordered(QuantizationSettings settings) =>
        settings is { Method: "gptq", ActOrder: null, StaticGroups: null } ? settings with { ActOrder = true, StaticGroups = true } : settings;

    /// <summary>
    /// The candidates of one matrix, the smallest first, none twice.
    /// </summary>
    /// <exception cref="NibbleException">The layout can hold none.</exception>
    public IReadOnlyList<PlannedTensor> Of(LinearSpec spec, DType source)
    {
        List<PlannedTensor> found = [];
        HashSet<int> widths = [];
        foreach (QuantizationSettings settings in _methods)
        {
            int[] bits = [.. Registry.Method(settings.Method).SupportedBits.Where(width => width >= 2 && widths.Add(width))];
            found.AddRange(bits.SelectMany(width => Of(spec, settings with { Bits = width })));
        }

        if (found.Count == 0)
        {
            Throw.Usage($"{spec.Path}: layout {_layout.Name} holds no form that {string.Join(" or ", _methods.Select(item => item.Method))} can make of {spec.Out} × {spec.In}", null, "choose another --layout or --method");
        }

        return [.. found.DistinctBy(item => item.Facts).OrderBy(item => Bytes(item, source))];
    }

    /// <summary>Bytes of a matrix in this form.</summary>
    public long Bytes(PlannedTensor tensor, DType source) => _layout.Declare(tensor.Facts!, source).Sum(item => item.Of("x").ByteLength);

    private IEnumerable<PlannedTensor> Of(LinearSpec spec, QuantizationSettings settings)
    {
        IQuantizationMethod method = Registry.Method(settings.Method);
        bool grouped = method.Complete(new() { Method = settings.Method }).GroupSize is not null;
        int?[] groups = !grouped || settings.GroupSize is not null ? [settings.GroupSize] : [.. Groups.Select(group => (int?)group)];
        foreach (int? group in groups)
        {
            // A last group that is shorter than the others would be read by Nibble alone.
            if (group is > 0 && spec.In % group.Value != 0)
            {
                continue;
            }

            QuantizationSettings complete = method.Complete(settings with { GroupSize = group });
            WeightFacts facts = method.FactsOf(complete, spec.Out, spec.In);
            if (_layout.CanHold(facts, out _))
            {
                yield return new PlannedTensor(spec, complete, facts, "budget");
            }
        }
    }
}
