using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Layouts;
using Nibble.Tensors;

namespace Nibble.Tuning.Merging;

/// <summary>
/// A quantized model folder again, byte for byte, but for the codes of some weights: same layout, same scales, same config. What
/// changed is held packed until <see cref="Write"/>; everything else is copied from the source.
/// </summary>
internal sealed class RequantizedFolder : IDisposable
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly HfFolder _source;
    private readonly QuantizedWeightSource _weights;
    private readonly Dictionary<string, Tensor> _changed = [];
    private readonly Dictionary<string, (string Digest, WeightError Error)> _digests = [];

    public RequantizedFolder(string folder)
    {
        _source = HfFolder.Open(folder);
        if (_source.Config.QuantMethod is null)
        {
            string path = _source.Path;
            _source.Dispose();
            Throw.BadInput($"{path} is not quantized", "only a quantized base has codes to merge into", "leave out --requantize: the merge into a dense model is exact");
        }

        _weights = new QuantizedWeightSource(_source, Registry.Architecture(_source.Config));
        if (_weights.RoundsActivations)
        {
            string path = _source.Path;
            _weights.Dispose();
            Throw.BadInput($"{path} rounds its activations on fixed scales", "an adapter changes them, and the scales would not fit any more", "merge into the dense model, and quantize that");
        }

        if (_weights.IsRepaired)
        {
            string path = _source.Path;
            _weights.Dispose();
            Throw.BadInput($"{path} has a low-rank repair", "its codes alone are not the model that the adapter was trained on", "merge without --requantize, or keep the adapter beside the base");
        }
    }

    /// <summary>The weight as the source holds it; the caller disposes it.</summary>
    public QuantizedWeight Read(LinearSpec spec) => _weights.Read(spec);

    /// <summary>True if the source holds codes for this matrix.</summary>
    public bool IsQuantized(LinearSpec spec) => _weights.IsQuantized(spec);

    /// <summary>Takes over the codes of <paramref name="merged"/>, which differs from <paramref name="stored"/> in nothing else.</summary>
    /// <param name="spec">The matrix.</param>
    /// <param name="stored">What <see cref="Read"/> gave.</param>
    /// <param name="merged">The same grid with other codes.</param>
    /// <param name="wanted">What the codes stand for, F32 <c>[out, in]</c>: the report's errors are against it.</param>
    public void Change(LinearSpec spec, QuantizedWeight stored, QuantizedWeight merged, Tensor wanted)
    {
        string module = _weights.ModuleOf(spec);
        Dictionary<string, Tensor> before = _weights.Layout.Encode(stored, DType.F32).ToDictionary(item => item.Suffix, item => item.Tensor);
        foreach (EncodedTensor after in _weights.Layout.Encode(merged, DType.F32))
        {
            using Tensor old = before[after.Suffix];
            if (Bytes(old).SequenceEqual(Bytes(after.Tensor)))
            {
                after.Tensor.Dispose();
                continue;
            }

            using Tensor file = _source.LoadBytes(module + after.Suffix);
            if (!Bytes(file).SequenceEqual(Bytes(old)))
            {
                Throw.Failed($"{module}{after.Suffix} cannot be changed in place", $"the layout {_weights.Layout.Name} reads it, but would write other bytes", "merge into a dense model and quantize that");
            }

            _changed.Add(module + after.Suffix, after.Tensor);
        }

        _digests[spec.Path] = (WeightDigest.Of(merged), WeightError.Of(wanted, merged));
    }

    /// <summary>Writes the whole folder.</summary>
    /// <param name="output">An existing folder.</param>
    /// <param name="note">What is said about the merge in the quantization's record.</param>
    public void Write(string output, JsonObject note)
    {
        using HfFolderWriter writer = new(output, _source.Names.Select(name =>
        {
            SafetensorsEntry entry = _source.Entry(name);
            return new SafetensorsSpec(name, entry.DTypeName, entry.Extents);
        }));
        foreach (string name in writer.Order)
        {
            using Tensor? copy = _changed.ContainsKey(name) ? null : _source.LoadBytes(name);
            writer.Append(name, copy ?? _changed[name]);
            _source.DropPages(name);
        }

        writer.Commit();
        writer.WriteConfig(_source.Config.Root.Element);
        writer.CopyFiles(_source.Path, [.. Directory.EnumerateFiles(_source.Path).Select(Path.GetFileName).Where(IsCopied)!]);
        WriteRecord(output, note);
    }

    public void Dispose()
    {
        foreach (Tensor tensor in _changed.Values)
        {
            tensor.Dispose();
        }

        _weights.Dispose();
    }

    private static unsafe ReadOnlySpan<byte> Bytes(Tensor tensor) => new(tensor.HostPointer, checked((int)tensor.ByteLength));

    // Documents of the layout and licences; weights, their index, config and record are written anew.
    private static bool IsCopied(string? name) =>
        name is not null && name[0] != '.' && name is not ("config.json" or QuantizationReport.FileName) && !name.Contains(".safetensors", StringComparison.Ordinal)
        && Path.GetExtension(name).ToLowerInvariant() is ".json" or ".txt" or ".md" or ".jinja" or ".model" or "";

    private void WriteRecord(string output, JsonObject note)
    {
        string path = Path.Combine(_source.Path, QuantizationReport.FileName);
        JsonNode root = File.Exists(path) ? JsonText.Read(path, read => JsonObject.Create(read.Clone()), "quantize the base again, or delete the file") : new JsonObject();
        foreach (JsonNode? tensor in root["report"]?["tensors"]?.AsArray() ?? [])
        {
            if (_digests.TryGetValue((string)tensor!["path"]!, out (string Digest, WeightError Error) now))
            {
                tensor["digest"] = now.Digest;
                tensor["relative_error"] = now.Error.Relative;
                tensor["largest_error"] = now.Error.Largest;
            }
        }

        root["merged"] = note;
        AtomicFile.WriteAllText(Path.Combine(output, QuantizationReport.FileName), root.ToJsonString(Json) + "\n");
    }
}
