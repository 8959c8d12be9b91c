using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;

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
}
