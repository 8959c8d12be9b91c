using System.CommandLine;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Cli;

/// <summary>The options that choose a quantization, for every verb that has one; <see cref="Request"/> turns them into a request.</summary>
internal sealed class QuantizationOptions
{
    private readonly Option<string?> _method = new("--method") { Description = $"Quantization method: {string.Join(", ", Registry.Methods.Select(method => method.Name))}." };
    private readonly Option<int?> _bits = new("--bits") { Description = "Bits of a code." };
    private readonly Option<int?> _groupSize = new("--group-size") { Description = "Columns that share a scale; -1: one scale a row." };
    private readonly Option<bool> _symmetric = new("--symmetric") { Description = "No zero points." };
    private readonly Option<bool> _asymmetric = new("--asymmetric") { Description = "A zero point for each group." };
    private readonly Option<int?> _blockSize = new("--block-size") { Description = "Elements of a block (nf4, fp4)." };
    private readonly Option<bool?> _doubleQuant = new("--double-quant") { Description = "Quantize the scales again (nf4, fp4)." };
    private readonly Option<float?> _threshold = new("--threshold") { Description = "Magnitude from which activation columns stay in high precision (int8)." };
    private readonly Option<int?> _axis = new("--axis") { Description = "Axis along which groups run (hqq)." };
    private readonly Option<bool?> _actOrder = new("--act-order") { Description = "Columns in the order of falling activation energy (gptq)." };
    private readonly Option<bool?> _staticGroups = new("--static-groups") { Description = "Grids of all groups from the dense weights, in the order of columns; with --act-order no index of groups is stored (gptq)." };
    private readonly Option<bool?> _mse = new("--mse") { Description = "Shrink ranges where that lessens the error of the group (gptq)." };
    private readonly Option<float?> _damping = new("--damping") { Description = "Share of the Hessian's mean diagonal added to it (gptq, default 0.01)." };
    private readonly Option<bool?> _compensate = new("--compensate") { Description = "Choose codes column by column on --data, the error of each made up for by the others, as gptq (nf4, fp4)." };
    private readonly Option<string?> _scaleDtype = new("--scale-dtype") { Description = "Dtype in which scales are stored: f32, f16, bf16." };
    private readonly Option<int?> _repairRank = new("--repair-rank") { Description = "Rank of a low-rank term beside each matrix that makes up for a part of its error." };
    private readonly Option<int?> _repairIterations = new("--repair-iterations") { Description = "Quantize and repair in turn so often (LoftQ; default 1: the error as it is)." };
    private readonly Option<bool?> _repairWeighted = new("--repair-weighted") { Description = "The repair lessens the error of outputs on the calibration text (default with gptq and awq) or of weights." };
    private readonly Option<int?> _activationBits = new("--activation-bits") { Description = "8: inputs and outputs of layers are rounded on scales that are found on --data (quanto)." };
    private readonly Option<string[]> _overrides = new("--override") { Description = "PATTERN=METHOD[:key=value,…]: other settings for some matrices, for example '*.mlp.*=rtn:bits=8' or '*.c_attn=none'; may be repeated, the last match wins." };
    private readonly Option<bool> _head = new("--quantize-head") { Description = "Quantize the output head as well." };
    private readonly Option<bool> _embeddings = new("--quantize-embeddings") { Description = "Quantize the token embedding as well, and a head that is tied to it." };
    private readonly Option<string?> _layout = new("--layout") { Description = $"How weights are stored: {string.Join(", ", Registry.Layouts.Select(layout => layout.Name))} (default: the one that the method prefers)." };

    /// <summary>Adds the options to a verb.</summary>
    public void AddTo(Command command)
    {
        _method.CompletionSources.Add([.. Registry.Methods.Select(method => method.Name)]);
        _scaleDtype.AcceptOnlyFromAmong("f32", "f16", "bf16");
        Option[] all = [_method, .. Settings(), _overrides, _head, _embeddings, _layout];
        foreach (Option option in all)
        {
            command.Options.Add(option);
        }
    }

    /// <summary>The request, or null if no method was named (or <c>none</c>).</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="isPlanned">A plan or a budget chooses methods; options of single matrices and of the folder belong to it.</param>
    public PlanRequest? Request(ParseResult parsed, bool isPlanned = false)
    {
        if (parsed.GetValue(_method) is not { } method || method == PlanOverride.Dense)
        {
            Option[] idle = isPlanned ? Settings() : [.. Settings(), _overrides, _head, _embeddings, _layout];
            if (idle.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false }) is { } option)
            {
                Throw.Usage($"{option.Name} needs --method", "no method was chosen that it could belong to", "add for example --method rtn, or leave it out");
            }

            return null;
        }

        return Others(parsed, Settings(parsed, Registry.Method(method).Name));
    }

    /// <summary>Everything but the method and its settings, which are <paramref name="settings"/>.</summary>
    public PlanRequest Others(ParseResult parsed, QuantizationSettings settings) => new(settings)
    {
        Overrides = [.. (parsed.GetValue(_overrides) ?? []).Select(PlanOverride.Parse)],
        Head = parsed.GetValue(_head),
        Embeddings = parsed.GetValue(_embeddings),
        Layout = parsed.GetValue(_layout),
    };

    private Option[] Settings() =>
        [_bits, _groupSize, _symmetric, _asymmetric, _blockSize, _doubleQuant, _threshold, _axis, _actOrder, _staticGroups, _mse, _damping, _compensate, _scaleDtype, _repairRank, _repairIterations, _repairWeighted, _activationBits];

    private QuantizationSettings Settings(ParseResult parsed, string method)
    {
        bool symmetric = parsed.GetValue(_symmetric), asymmetric = parsed.GetValue(_asymmetric);
        if (symmetric && asymmetric)
        {
            Throw.Usage("--symmetric and --asymmetric exclude each other", remedy: "give one of them");
        }

        return new QuantizationSettings
        {
            Method = method,
            Bits = parsed.GetValue(_bits),
            GroupSize = parsed.GetValue(_groupSize),
            Symmetric = symmetric ? true : asymmetric ? false : null,
            BlockSize = parsed.GetValue(_blockSize),
            DoubleQuant = parsed.GetValue(_doubleQuant),
            Threshold = parsed.GetValue(_threshold),
            Axis = parsed.GetValue(_axis),
            ActOrder = parsed.GetValue(_actOrder),
            StaticGroups = parsed.GetValue(_staticGroups),
            Mse = parsed.GetValue(_mse),
            Damping = parsed.GetValue(_damping),
            Compensate = parsed.GetValue(_compensate),
            RepairRank = parsed.GetValue(_repairRank),
            RepairIterations = parsed.GetValue(_repairIterations),
            RepairWeighted = parsed.GetValue(_repairWeighted),
            ActivationBits = parsed.GetValue(_activationBits),
            ScaleDType = parsed.GetValue(_scaleDtype) is { } name ? Enum.Parse<DType>(name, ignoreCase: true) : null,
        };
    }
}
