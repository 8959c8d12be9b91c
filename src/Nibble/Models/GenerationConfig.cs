using Nibble.Formats;
using Nibble.Tokenization;

namespace Nibble.Models;

/// <summary>Which tokens end a text: <c>generation_config.json</c> wins over <c>config.json</c>, and the tokenizer adds its own.</summary>
internal static class GenerationConfig
{
    public static IReadOnlyList<int> EosIds(string folder, ModelConfig config, Tokenizer? tokenizer)
    {
        string path = Path.Combine(folder, "generation_config.json");
        IReadOnlyList<int> ids = File.Exists(path) ? JsonConfig.Open(path).GetInts("eos_token_id") : [];
        ids = ids.Count > 0 ? ids : config.Text.GetInts("eos_token_id");
        return [.. ids.Concat(tokenizer?.EosIds ?? []).Distinct()];
    }
}
