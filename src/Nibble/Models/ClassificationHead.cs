using Nibble.Formats;

namespace Nibble.Models;

/// <summary>What transformers' <c>…ForSequenceClassification</c> adds to a causal model: a head <c>score</c> without bias.</summary>
internal static class ClassificationHead
{
    private const int DefaultLabels = 2;

    /// <summary>Labels of the head, or 0 if the config describes a language model.</summary>
    public static int Labels(ModelConfig config)
    {
        if (!config.Architectures.Any(name => name.EndsWith("ForSequenceClassification", StringComparison.Ordinal)))
        {
            return 0;
        }

        JsonConfig json = config.Root;
        int named = json.Section("id2label")?.Element.EnumerateObject().Count() ?? DefaultLabels;
        return json.GetInt("num_labels|_num_labels", named, 1, 1 << 20);
    }
}
