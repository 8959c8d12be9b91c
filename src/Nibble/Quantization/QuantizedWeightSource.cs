using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization.Layouts;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// The weights of a quantized model folder: modules that have the layout's tensors give quantized weights, all others dense ones.
/// </summary>
public sealed class QuantizedWeightSource : IWeightSource
{
    /// <summary>
    /// The key of <c>quantization_config</c> by which a model that was trained with 8-bit activations says so: its layers then read them so, whatever is asked for. In
    /// optimum-quanto's layout it tells that activations are rounded on scales that stand beside the weights.
    /// Other readers ignore it; transformers rounds the activations of every <c>bitnet</c> checkpoint.
    /// </summary>
    internal const string ActivationsKey = "activations";

    private readonly HfFolder _folder;
    private readonly DenseWeightSource _dense;
    private readonly ActivationChoice _activations;
    private readonly RepairFolder? _repair;

    /// <summary>Reads from <paramref name="folder"/>, which it then owns.</summary>
    /// <param name="folder">A model whose config has a <c>quantization_config</c>.</param>
    /// <param name="architecture">Its family.</param>
    /// <param name="dtype">Dtype of the matrices that are dense; null as stored.</param>
    /// <param name="activations">In which numbers products read their activations.</param>
    public QuantizedWeightSource(HfFolder folder, IArchitecture architecture, DType? dtype = null, ActivationChoice activations = ActivationChoice.F32)
    {
        _folder = folder;
        Layout = Registry.Layout(folder.Config);
        string kind = folder.Config.Quantization!.GetString(ActivationsKey, "none");
        RoundsActivations = Layout is QuantoLayout && kind != "none";
        // On fixed scales the product runs over the rounded values as they are.
        _activations = RoundsActivations ? ActivationChoice.F32 : kind == "int8" ? ActivationChoice.Int8 : activations;
        _dense = new DenseWeightSource(folder, architecture, dtype);
        RequireQuantized(architecture);
        _repair = RepairFolder.Open(folder, architecture);
    }

    /// <summary>How the weights are stored.</summary>
    public IQuantizationLayout Layout { get; }

    /// <inheritdoc/>
    public string Source => _folder.Path;

    /// <inheritdoc/>
    public IReadOnlyCollection<string> Names => _dense.Names;

    /// <inheritdoc/>
    public Shape? ShapeOf(string name) => _dense.ShapeOf(name);

    /// <inheritdoc/>
    public Tensor Tensor(string name) => _dense.Tensor(name);

    /// <summary>True if the module's weight is quantized.</summary>
    public bool IsQuantized(LinearSpec spec) => _dense.StoredName(spec.Path + Layout.Marker) is not null;

    /// <inheritdoc/>
    public string? Problem(LinearSpec spec)
    {
        if (!IsQuantized(spec))
        {
            return _dense.Problem(spec);
        }

        try
        {
            LayoutReader reader = Reader(spec);
            string problems = string.Join("; ", reader.Problems(Layout.Declare(Layout.Inspect(reader, spec.Out, spec.In), DType.F32)));
            return problems.Length == 0 ? null : problems;
        }
        catch (NibbleException error)
        {
            return $"{error.What}: {error.Why}";
        }
    }

    /// <inheritdoc/>
    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        if (!IsQuantized(spec))
        {
            return _dense.Linear(spec, backend);
        }

        using QuantizedWeight weight = Read(spec);
        return WeightPacking.Pack(weight, spec, backend, _activations);
    }

    /// <summary>The quantized weight of a module; the caller disposes it.</summary>
    public QuantizedWeight Read(LinearSpec spec)
    {
        LayoutReader reader = Reader(spec);
        WeightFacts facts = Layout.Inspect(reader, spec.Out, spec.In);
        IReadOnlyList<StoredTensor> expected = Layout.Declare(facts, DType.F32);
        reader.Check(expected);
        QuantizedWeight weight = Layout.Decode(reader, facts);
        foreach (StoredTensor tensor in expected)
        {
            _folder.DropPages(reader.Module + tensor.Suffix);
        }

        return weight;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _repair?.Dispose();
        _folder.Dispose();
    }

    /// <inheritdoc/>
    RepairTerm? IWeightSource.Repair(LinearSpec spec, IBackend backend)
    {
        using LowRankPair? pair = ReadRepair(spec);
        return pair?.Pack(backend);
    }

    /// <summary>True if quantized layers round their activations on fixed scales.</summary>
    internal bool RoundsActivations { get; }

    /// <inheritdoc/>
    StaticActivations? IWeightSource.Activations(LinearSpec spec)
    {
        if (!RoundsActivations || !IsQuantized(spec))
        {
            return null;
        }

        if (spec.Role != LinearRole.Block)
        {
            Throw.BadInput($"{Source}: {spec.Path} is quantized and reads rounded activations", "Nibble rounds activations in blocks only", "quantize it with exclude=['lm_head'], or without activations");
        }

        return QuantoLayout.Activations(Reader(spec));
    }

    /// <summary>True if some matrices have a repair.</summary>
    internal bool IsRepaired => _repair is not null;

    /// <summary>The repair of a module, or null; the caller disposes it.</summary>
    internal LowRankPair? ReadRepair(LinearSpec spec) => _repair?.Read(spec);

    /// <summary>The path of a quantized module as the folder names it.</summary>
    internal string ModuleOf(LinearSpec spec) => _dense.StoredName(spec.Path + Layout.Marker)![..^Layout.Marker.Length];

    private LayoutReader Reader(LinearSpec spec) => new(_folder, _folder.Config.Quantization!, ModuleOf(spec));

    private void RequireQuantized(IArchitecture architecture)
    {
        IReadOnlyList<LinearSpec> specs = architecture.Linears(_folder.Config);
        // BitNet's online form keeps dense masters and is quantized by the architecture itself.
        if (!specs.Any(spec => spec.Ternary || IsQuantized(spec)))
        {
            Throw.BadInput(
                $"{_folder.Path}: quantization_config says {_folder.Config.QuantMethod}, but no layer has quantized tensors",
                $"the layout {Layout.Name} marks them by names that end in '{Layout.Marker}'",
                "remove quantization_config if the model is dense, or download it again");
        }
    }
}
