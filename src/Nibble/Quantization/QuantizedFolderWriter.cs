using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Layouts;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization;

/// <summary>
/// Writes a quantized model folder from a dense one: planned matrices come one by one, in the order of the plan; everything else is
/// copied as it is. Nothing but the matrix in hand stands in memory.
/// </summary>
public sealed class QuantizedFolderWriter : IDisposable
{
    private static readonly JsonSerializerOptions Json = DocumentJson.Known(new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = System.Text.Json.Serialization.JsonIgnoreCondition.WhenWritingNull,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });

    private readonly HfFolder _source;
    private readonly QuantPlan _plan;
    private readonly string _folder;
    private readonly IArchitecture _architecture;
    private readonly Dictionary<string, string> _storedNames = [];
    private readonly List<QuantizedTensorReport> _reports = [];
    private readonly Dictionary<string, float[]> _changed = [];
    private readonly HfFolderWriter _writer;
    private readonly List<(LinearSpec Spec, LowRankPair Pair)> _repairs = [];
    private double _errorSum, _normSum;

    /// <summary>Declares all tensors of the result.</summary>
    /// <param name="source">The dense model.</param>
    /// <param name="plan">What happens to each matrix.</param>
    /// <param name="folder">An existing folder to write into (see <see cref="OutputFolder"/>).</param>
    /// <param name="maxShardBytes">Most bytes of tensors in one file.</param>
    public QuantizedFolderWriter(HfFolder source, QuantPlan plan, string folder, long maxShardBytes = HfFolderWriter.DefaultShardBytes)
    {
        (_source, _plan, _folder) = (source, plan, folder);
        _architecture = Registry.Architecture(source.Config);
        foreach (string name in source.Names)
        {
            if (_architecture.Sanitize(name) is { } module)
            {
                _storedNames[module] = name;
            }
        }

        _writer = new HfFolderWriter(folder, Declare(), maxShardBytes);
    }

    /// <summary>In which numbers the quantized layers must read their activations; int8 is written down (see <see cref="QuantizedWeightSource.ActivationsKey"/>).</summary>
    public ActivationType Activations { get; init; } = ActivationType.F32;

    /// <summary>The dtype of the dense checkpoint's matrices, which some layouts write down.</summary>
    public DType SourceDType => _source.Entry(_storedNames[_plan.Tensors[0].Spec.WeightName]).DType ?? DType.F32;

    /// <summary>Loads a matrix as F32 <c>[out, in]</c>; NaN and infinity are refused. The caller disposes it.</summary>
    public Tensor Load(LinearSpec spec)
    {
        string stored = _storedNames[spec.WeightName];
        using Tensor view = _source.LoadFinite(stored);
        try
        {
            if (!spec.StoredTransposed)
            {
                return view.To(DType.F32);
            }

            Tensor turned = Transpose.Of(view);
            if (turned.DType == DType.F32)
            {
                return turned;
            }

            using (turned)
            {
                return turned.To(DType.F32);
            }
        }
        finally
        {
            _source.DropPages(stored);
        }
    }

    /// <summary>Shows a matrix <c>[out, in]</c> in the dtype of the file, which the caller checks for NaN and infinity; it is gone afterwards.</summary>
    internal T WithStored<T>(LinearSpec spec, Func<Tensor, T> work)
    {
        string stored = _storedNames[spec.WeightName];
        using Tensor view = _source.Load(stored);
        try
        {
            if (!spec.StoredTransposed)
            {
                return work(view);
            }

            using Tensor turned = Transpose.Of(view);
            return work(turned);
        }
        finally
        {
            _source.DropPages(stored);
        }
    }

    /// <summary>Writes a quantized matrix and notes its error.</summary>
    /// <param name="tensor">The planned tensor.</param>
    /// <param name="dense">The matrix before, F32 <c>[out, in]</c>.</param>
    /// <param name="weight">The matrix after; the caller disposes both.</param>
    public void Add(PlannedTensor tensor, Tensor dense, QuantizedWeight weight) => Add(tensor, weight, null, WeightError.Of(dense, weight));

    /// <summary>The same with a repair, which the writer then owns.</summary>
    internal void Add(PlannedTensor tensor, Tensor dense, QuantizedWeight weight, LowRankPair? repair) =>
        Add(tensor, weight, repair, repair is null ? WeightError.Of(dense, weight) : WeightError.Of(dense, weight, repair));

    /// <summary>The same where the error is known.</summary>
    internal void Add(PlannedTensor tensor, QuantizedWeight weight, LowRankPair? repair, WeightError error)
    {
        if (weight.Facts.StaticActivations != tensor.Facts!.StaticActivations)
        {
            Throw.Failed($"{tensor.Spec.Path} came out {(weight.Facts.StaticActivations ? "with" : "without")} scales of activations, which is not what was planned");
        }

        if (!_plan.Layout.CanHold(weight.Facts, out string why))
        {
            Throw.Failed($"{tensor.Spec.Path} came out as {weight.Facts}, which the layout {_plan.Layout.Name} cannot hold", why);
        }

        _normSum += error.Norm;
        _errorSum += error.Relative * error.Relative * error.Norm;
        // Hashing takes as long as encoding and writing.
        Task<string> digest = Task.Run(() => WeightDigest.Of(weight));
        long bits = weight.StoredBits + (8 * (repair?.ByteLength ?? 0));
        try
        {
            Append(StoredModule(tensor.Spec), weight);
        }
        finally
        {
            ((IAsyncResult)digest).AsyncWaitHandle.WaitOne();
        }

        string hash = digest.GetAwaiter().GetResult();
        QuantizationSettings settings = tensor.Settings!;
        _reports.Add(new QuantizedTensorReport(
            tensor.Spec.Path,
            [tensor.Spec.Out, tensor.Spec.In],
            settings.Method,
            settings.Bits!.Value,
            settings.ToDocument(),
            (double)bits / Math.Max(1, tensor.Count),
            error.Relative,
            error.Largest,
            repair is null ? hash : repair.Digest(hash)));
        if (repair is not null)
        {
            _repairs.Add((tensor.Spec, repair));
        }
    }

    private void Append(string module, QuantizedWeight weight)
    {
        foreach (EncodedTensor encoded in _plan.Layout.Encode(weight, SourceDType))
        {
            using Tensor stored = encoded.Tensor;
            _writer.Append(module + encoded.Suffix, stored);
        }
    }

    /// <summary>Copies a matrix that stays dense.</summary>
    public void Keep(PlannedTensor tensor) => Copy(_storedNames[tensor.Spec.WeightName]);

    /// <summary>Other values for one of the plan's folded vectors.</summary>
    internal void Change(string vector, float[] values) => _changed[vector] = values;

    /// <summary>Copies every other tensor, writes config, tokenizer, plan and report, and completes the weights.</summary>
    /// <param name="calibration">What the methods were calibrated on; null without calibration.</param>
    /// <param name="scaling">Which factors moved; null if no method moves any.</param>
    public QuantizationReport Finish(CalibrationRecord? calibration = null, IReadOnlyList<ScalingRecord>? scaling = null)
    {
        foreach (string name in Others())
        {
            if (IsFolded(name))
            {
                float[] values = _changed[_architecture.Sanitize(name)!];
                using Tensor changed = Tensor.From<float>(new Shape(values.Length), DType.F32, values);
                _writer.Append(name, changed);
                continue;
            }

            Copy(name);
        }

        _writer.Commit();
        LayoutModules modules = Modules();
        JsonObject config = JsonNode.Parse(_source.Config.Root.Element.GetRawText())!.AsObject();
        JsonObject section = _plan.Layout.Section(modules);
        if (Activations == ActivationType.Int8)
        {
            section[QuantizedWeightSource.ActivationsKey] = "int8";
        }

        config["quantization_config"] = section;
        if (_repairs.Count > 0)
        {
            config[RepairFolder.Key] = RepairFolder.Name;
            RepairFolder.Write(_folder, _repairs);
        }

        _writer.WriteConfig(DocumentJson.Element(config));
        _writer.CopyFiles(_source.Path, "LICENSE", "LICENSE.txt", "NOTICE");
        foreach ((string name, JsonObject document) in _plan.Layout.Files(modules))
        {
            AtomicFile.WriteAllText(Path.Combine(_folder, name), document.ToJsonString(Json) + "\n");
        }

        QuantizationReport report = Report() with { Calibration = calibration, Scaling = scaling };
        AtomicFile.WriteAllText(Path.Combine(_folder, QuantizationReport.FileName), DocumentJson.Text(new QuantizationRecord(report, _plan.ToDocument()), Json) + "\n");
        return report;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _writer.Dispose();
        _repairs.ForEach(item => item.Pair.Dispose());
    }

    /// <summary>Reads a saved report.</summary>
    public static QuantizationReport ReadReport(string folder)
    {
        string path = Path.Combine(folder, QuantizationReport.FileName);
        if (!File.Exists(path))
        {
            Throw.NotFound($"{path} does not exist", "without the report there is nothing to compare with", "verify a folder that nibble quantize wrote");
        }

        return JsonText.Read(path, root => DocumentJson.Read<QuantizationReport>(root.GetProperty("report"), Json), "quantize the model again");
    }

    private IEnumerable<SafetensorsSpec> Declare()
    {
        foreach (PlannedTensor tensor in _plan.Tensors)
        {
            if (tensor.Facts is null)
            {
                yield return Same(_storedNames[tensor.Spec.WeightName]);
                continue;
            }

            foreach (StoredTensor stored in _plan.Layout.Declare(tensor.Facts, SourceDType))
            {
                yield return stored.Of(StoredModule(tensor.Spec));
            }
        }

        foreach (string name in Others())
        {
            SafetensorsSpec same = Same(name);
            yield return IsFolded(name) ? same with { DTypeName = SafetensorsDType.Name(DType.F32) } : same;
        }
    }

    private bool IsFolded(string name) => _architecture.Sanitize(name) is { } vector && _plan.FoldedVectors.Contains(vector);

    private SafetensorsSpec Same(string name)
    {
        SafetensorsEntry entry = _source.Entry(name);
        return new SafetensorsSpec(name, entry.DTypeName, entry.Extents);
    }

    /// <summary>Tensors that are no planned matrix, without those that the architecture ignores.</summary>
    private IEnumerable<string> Others()
    {
        HashSet<string> matrices = [.. _plan.Tensors.Select(tensor => _storedNames[tensor.Spec.WeightName])];
        HashSet<string> vectors = [.. _architecture.Vectors(_source.Config).Select(spec => spec.Name)];
        return _source.Names.Where(name => !matrices.Contains(name) && _architecture.Sanitize(name) is { } module && vectors.Contains(module));
    }

    private void Copy(string name)
    {
        using Tensor bytes = _source.LoadBytes(name);
        _writer.Append(name, bytes);
        _source.DropPages(name);
    }

    private string StoredModule(LinearSpec spec) => _storedNames[spec.WeightName][..^".weight".Length];

    private LayoutModules Modules() => new(
        [.. _plan.Quantized.Select(tensor => (StoredModule(tensor.Spec), tensor.Settings!, tensor.Facts!))],
        [.. _plan.Tensors.Where(tensor => tensor is { Settings: null, Spec.Role: not LinearRole.Embedding }).Select(tensor => StoredModule(tensor.Spec)), .. TiedHead()],
        SourceDType,
        _plan.Quantized.All(tensor => tensor.Spec is { StoredTransposed: false, Role: not LinearRole.Embedding }));

    // Other readers see a head of its own even where it is tied to the embedding: they must be told to leave it alone.
    private string[] TiedHead() => _plan.Tensors.Any(tensor => tensor.Spec.Role is LinearRole.Head or LinearRole.Classifier) ? [] : ["lm_head"];

    private QuantizationReport Report()
    {
        PlannedTensor main = _plan.Quantized.GroupBy(tensor => tensor.Settings!).MaxBy(group => group.Sum(tensor => tensor.Count))!.First();
        long before = _source.WeightBytes, after = Declare().Sum(spec => spec.ByteLength) + _repairs.Sum(item => item.Pair.ByteLength);
        long weights = _plan.Quantized.Sum(tensor => tensor.Count);
        double bits = _reports.Sum(report => report.BitsPerWeight * report.Shape[0] * report.Shape[1]);
        return new QuantizationReport
        {
            ModelType = _plan.ModelType,
            Method = main.Settings!.Method,
            Bits = main.Settings.Bits!.Value,
            Settings = main.Settings.ToDocument(),
            Layout = _plan.Layout.Name,
            BitsPerWeight = bits / Math.Max(1, weights),
            BitsPerParameter = 8.0 * after / Math.Max(1, ModelBuilder.CountParameters(_architecture, _source.Config)),
            BytesBefore = before,
            BytesAfter = after,
            RelativeError = _errorSum == 0 ? 0 : Math.Sqrt(_errorSum / _normSum),
            ChangedVectors = _changed.Count == 0 ? null : _changed.ToDictionary(item => item.Key, item => WeightDigest.Of(item.Value)),
            Kept = [.. _plan.Tensors.Where(tensor => tensor.Settings is null).Select(tensor => tensor.Spec.Path)],
            Tensors = _reports,
        };
    }
}
