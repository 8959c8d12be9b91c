using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.LowRank;

namespace Nibble.Tuning;

/// <summary>Reads adapter folders of any kind.</summary>
public static class Adapters
{
    /// <summary>Reads a PEFT adapter for a base model, or a mixture of some (<see cref="MixedAdapter"/>).</summary>
    /// <exception cref="IO.NibbleException">No adapter, a kind that is not supported, or one of another base.</exception>
    public static IAdapter Load(string folder, ModelConfig config, IBackend backend)
    {
        if (MixedAdapter.IsMixture(folder))
        {
            return MixedAdapter.Load(folder, config, backend);
        }

        if (config.Root.GetString(RepairFolder.Key, null) is { } repair && Path.GetFullPath(Path.Combine(Path.GetDirectoryName(config.Path)!, repair)) == Path.GetFullPath(folder))
        {
            Throw.Usage($"{folder} is the repair of this base", "it is on the model already", "leave --adapter out");
        }

        JsonConfig json = PeftConfig.Open(folder);
        IArchitecture architecture = Registry.Architecture(config);
        (IReadOnlyList<LinearSpec> linears, ModelFacts facts) = (architecture.Linears(config), architecture.Facts(config));
        switch (json.GetString("peft_type"))
        {
            case "LORA":
                return LoraAdapter.Load(folder, json, linears, facts, backend);
            case "IA3":
                return Ia3Adapter.Load(folder, json, linears, facts, backend);
            case "PREFIX_TUNING":
                return PrefixAdapter.Load(folder, json, facts, backend);
            case "PROMPT_TUNING":
                return PromptAdapter.Load(folder, json, facts, backend);
            default:
                json.Refuse("peft_type", "supported are LORA (with rsLoRA and DoRA), IA3, PREFIX_TUNING and PROMPT_TUNING", "merge the adapter with PEFT, then use the merged model");
                return null!;
        }
    }

    /// <summary>
    /// Names of the labels of the classification head that an adapter brings to a base without one, or null. They stand in a
    /// config.json beside the adapter (the names of transformers' <c>id2label</c>); the number comes from the head itself. A GGUF file takes none.
    /// </summary>
    public static IReadOnlyList<string>? Labels(string folder, string baseModel)
    {
        // A mixture is of plain LoRA adapters, which have no head.
        if (GgufFile.Names(baseModel) || MixedAdapter.IsMixture(folder) || !SavedHead.IsNamed(PeftConfig.Open(folder)) || ClassificationHead.Labels(ModelConfig.Open(baseModel)) > 0)
        {
            return null;
        }

        if (File.Exists(Path.Combine(folder, "config.json")))
        {
            return ClassificationHead.Names(ModelConfig.Open(folder));
        }

        using SafetensorsFile file = AdapterFile.Open(folder);
        int labels = file.Entries.TryGetValue(SavedHead.TensorName, out SafetensorsEntry? entry) ? (int)entry.Extents.FirstOrDefault() : 0;
        return labels == 0 ? null : [.. Enumerable.Range(0, labels).Select(id => $"LABEL_{id}")];
    }
}
