using Nibble.IO;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>The checks that all methods share; a method adds its defaults, its own checks and the work.</summary>
internal abstract class QuantizationMethod : IQuantizationMethod
{
    public abstract string Name { get; }

    public abstract string Summary { get; }

    public abstract IReadOnlyList<int> SupportedBits { get; }

    public virtual bool NeedsCalibration => false;

    public virtual bool ScalesInputs => false;

    public virtual string PreferredLayout => "compressed-tensors";

    /// <summary>True if the method's layers can read and give activations on fixed scales.</summary>
    protected virtual bool RoundsActivations => false;

    public abstract WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures);

    /// <summary>The defaults; a setting that is null here is one that the method does not take.</summary>
    protected abstract QuantizationSettings Defaults { get; }

    public virtual QuantizationSettings ForModel(QuantizationSettings settings, DType stored) => settings;

    public QuantizationSettings Complete(QuantizationSettings settings)
    {
        QuantizationSettings.RefuseForeign(settings, Defaults);
        QuantizationSettings complete = settings.Or(Adapt(settings)).CompleteRepair(NeedsCalibration);
        if (!SupportedBits.Contains(complete.Bits!.Value))
        {
            Refuse("--bits", complete.Bits, $"possible are {string.Join(", ", SupportedBits)}");
        }

        if (complete.ScaleDType is { } dtype && !dtype.IsFloat())
        {
            Refuse("--scale-dtype", dtype, "possible are f32, f16, bf16");
        }

        ValidateActivations(complete);
        Validate(complete);
        return complete;
    }

    public QuantizedWeight Quantize(string name, Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics = null)
    {
        if (weight.DType != DType.F32 || weight.Shape.Rank != 2 || !weight.IsOnHost)
        {
            Throw.Argument("quantize", $"an F32 matrix on the host is needed, not {weight.DType} {weight.Shape}");
        }

        FiniteCheck.Require(weight, name, Name);
        QuantizedWeight quantized = Quantize(weight, settings, statistics);
        GC.KeepAlive(weight);
        return quantized;
    }

    protected abstract QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics);

    /// <summary>The defaults, given what was chosen.</summary>
    protected virtual QuantizationSettings Adapt(QuantizationSettings chosen) => Defaults;

    /// <summary>Refuses complete settings that the method cannot do.</summary>
    protected virtual void Validate(QuantizationSettings settings)
    {
    }

    protected void Refuse(string flag, object? value, string possible) =>
        Throw.Usage(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"method {Name} cannot use {flag} {value}"), possible, $"see docs/methods.md, {Name}");

    private void ValidateActivations(QuantizationSettings settings)
    {
        if (settings.ActivationBits is not { } bits)
        {
            return;
        }

        if (!RoundsActivations || bits != 8)
        {
            Refuse("--activation-bits", bits, RoundsActivations ? "possible is 8" : "only quanto stores scales of activations; int8 and bitnet round each token on a scale of its own");
        }

        if (settings.RepairRank is not null)
        {
            Throw.Usage("--activation-bits and --repair-rank exclude each other", "a repair reads activations as they are", "leave one of them out");
        }
    }

    /// <summary>Refuses group sizes that make no sense for rows.</summary>
    protected void ValidateGroupSize(int groupSize)
    {
        if (groupSize is not QuantizationSettings.WholeRow and < 2)
        {
            Refuse("--group-size", groupSize, "possible are whole numbers from 2 on, and -1 for one group a row");
        }
    }

    /// <summary>The statistics of a layer's inputs that calibrated methods need.</summary>
    protected GramStatistics RequireGram(CalibrationStatistics? statistics, nint columns)
    {
        if (statistics is not GramStatistics gram || gram.Columns != columns)
        {
            Throw.Usage($"{Name} needs calibration", "no statistics of this layer's inputs were collected", "give a text with --data");
            return null!;
        }

        return gram;
    }

    /// <summary>Affine weights with whole zero points and groups along rows.</summary>
    protected static WeightFacts AffineFacts(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        new(WeightKind.Affine, outFeatures, inFeatures, settings.Bits!.Value, settings.ScaleDType!.Value)
        {
            GroupSize = RowGroup(settings.GroupSize!.Value, inFeatures),
            Symmetric = settings.Symmetric!.Value,
            WholeOffsets = true,
            // One group a row is the same group for every column, in whatever order they were rounded.
            ActOrder = settings.ActOrder == true && RowGroup(settings.GroupSize!.Value, inFeatures) < inFeatures,
        };

    /// <summary>The group size for a matrix: no group is longer than a row.</summary>
    protected static int RowGroup(int groupSize, nint columns) =>
        (int)Math.Max(1, groupSize == QuantizationSettings.WholeRow ? columns : nint.Min(groupSize, columns));
}
