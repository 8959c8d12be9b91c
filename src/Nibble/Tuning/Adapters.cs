using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;

namespace Nibble.Tuning;

/// <summary>Reads adapter folders of any kind.</summary>
public static class Adapters
{
    /// <summary>Reads a PEFT adapter for a base model.</summary>
    /// <exception cref="IO.NibbleException">No adapter, a kind that is not supported, or one of another base.</exception>
    public static IAdapter Load(string folder, ModelConfig config, IBackend backend)
    {
        JsonConfig json = PeftConfig.Open(folder);
        string kind = json.GetString("peft_type");
        if (kind != "LORA")
        {
            json.Refuse("peft_type", "supported is LORA (with rsLoRA)", "merge the adapter with PEFT, then use the merged model");
        }

        return LoraAdapter.Load(folder, json, Registry.Architecture(config).Linears(config), backend);
    }
}
