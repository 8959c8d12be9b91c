using System.Text.RegularExpressions;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Quantization.LowRank;

/// <summary>
/// The repair of a quantized model: a plain LoRA adapter in PEFT's form in a folder inside the model's, which config.json names, so that it can neither
/// be forgotten nor lost without a word. Other programs put it on the base with PEFT; the base alone is the model without repair.
/// </summary>
internal sealed class RepairFolder : IDisposable
{
    /// <summary>The key of config.json, and its value: the only name that is taken, so that no config can point elsewhere.</summary>
    public const string Key = "nibble_repair", Name = "repair";

    private readonly SafetensorsFile _file;

    private RepairFolder(SafetensorsFile file) => _file = file;

    /// <summary>Opens the repair that a model's config names; null if it names none.</summary>
    /// <exception cref="NibbleException">It is missing, or does not belong to this model.</exception>
    public static RepairFolder? Open(HfFolder folder, IArchitecture architecture)
    {
        JsonConfig root = folder.Config.Root;
        if (root.GetString(Key, null) is not { } named)
        {
            return null;
        }

        string path = Path.Combine(folder.Path, Name);
        if (named != Name)
        {
            root.Refuse(Key, $"the only folder that is read is '{Name}'", "quantize the model again");
        }

        if (!Directory.Exists(path))
        {
            Throw.NotFound($"{path} does not exist", $"config.json says that the quantized weights have a low-rank repair ({Key}); without it the model is another, worse one", $"copy the folder as well, or remove {Key} from config.json");
        }

        LoraSettings settings = PeftConfig.ReadLora(PeftConfig.Open(path));
        SafetensorsFile file = AdapterFile.Open(path);
        try
        {
            AdapterFile.Check(file, TargetModules.Find(architecture.Linears(folder.Config), settings).SelectMany(Specs));
            return new RepairFolder(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>True if the config of a model folder names a repair.</summary>
    public static bool IsNamed(string model) => File.Exists(Path.Combine(model, "config.json")) && ModelConfig.Open(model).Root.GetString(Key, null) is not null;

    /// <summary>Writes the repair of a model.</summary>
    public static void Write(string model, IReadOnlyList<(LinearSpec Spec, LowRankPair Pair)> pairs)
    {
        string folder = Path.Combine(model, Name);
        Directory.CreateDirectory(folder);
        Safetensors.Save(
            Path.Combine(folder, PeftConfig.WeightsName),
            pairs.SelectMany(item => new[] { (LoraPair.Name(item.Spec, "lora_A.weight"), item.Pair.A), (LoraPair.Name(item.Spec, "lora_B.weight"), item.Pair.B) }));
        int rank = pairs.GroupBy(item => item.Pair.Rank).MaxBy(group => group.Count())!.Key;
        (string Path, int Rank)[] others = [.. pairs.Where(item => item.Pair.Rank != rank).Select(item => (Regex.Escape(item.Spec.Path), item.Pair.Rank))];
        LoraSettings settings = new()
        {
            Rank = rank,
            Alpha = rank,
            TargetModules = [.. pairs.Select(item => item.Spec.Path)],
            RankPattern = others.ToDictionary(item => item.Path, item => item.Rank),
            AlphaPattern = others.ToDictionary(item => item.Path, item => (double)item.Rank),
        };
        SortedDictionary<string, object?> values = new(PeftConfig.Lora(settings, [], pairs.Any(item => item.Spec.StoredTransposed)), StringComparer.Ordinal)
        {
            ["auto_mapping"] = null,
            ["inference_mode"] = true,
            ["modules_to_save"] = null,
            ["revision"] = null,
            ["task_type"] = "CAUSAL_LM",
        };
        PeftConfig.Write(Path.Combine(folder, PeftConfig.FileName), values);
    }

    /// <summary>The repair of a matrix, or null; the caller disposes it.</summary>
    public LowRankPair? Read(LinearSpec spec)
    {
        if (!_file.Entries.ContainsKey(LoraPair.Name(spec, "lora_A.weight")))
        {
            return null;
        }

        using Tensor a = AdapterFile.Floats(_file, LoraPair.Name(spec, "lora_A.weight")), b = AdapterFile.Floats(_file, LoraPair.Name(spec, "lora_B.weight"));
        return new LowRankPair(a.To(DType.BF16), b.To(DType.BF16));
    }

    public void Dispose() => _file.Dispose();

    private static IEnumerable<TensorSpec> Specs(LoraTarget target)
    {
        yield return new(LoraPair.Name(target.Linear, "lora_A.weight"), new Shape(target.Rank, target.Linear.In));
        yield return new(LoraPair.Name(target.Linear, "lora_B.weight"), new Shape(target.Linear.Out, target.Rank));
    }
}
