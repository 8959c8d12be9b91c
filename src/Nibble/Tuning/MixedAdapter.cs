using System.Globalization;
using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// A weighted sum of LoRA adapters on one base: y = base(x) + Σ wᵢ·sᵢ·Bᵢ(Aᵢ(x)). The sum is of what the adapters add, not of their
/// matrices, so it is exact for any ranks and layers (PEFT's <c>add_weighted_adapter</c> with <c>combination_type="cat"</c>).
/// </summary>
public sealed class MixedAdapter : IAdapter
{
    private readonly IReadOnlyList<(LoraAdapter Adapter, float Weight)> _parts;

    private MixedAdapter(IReadOnlyList<(LoraAdapter, float)> parts) => _parts = parts;

    /// <inheritdoc/>
    public long ByteLength => _parts.Sum(part => part.Adapter.ByteLength);

    /// <summary>True if the text has the form <c>FOLDER=WEIGHT,FOLDER=WEIGHT…</c> and is no folder itself.</summary>
    public static bool IsMixture(string text) => text.Contains('=', StringComparison.Ordinal) && !Directory.Exists(text);

    /// <summary>Reads a mixture.</summary>
    /// <param name="text"><c>FOLDER=WEIGHT,FOLDER=WEIGHT…</c>.</param>
    /// <param name="config">The base's config.</param>
    /// <param name="backend">Where the adapters' weights go.</param>
    /// <exception cref="NibbleException">A weight that is no number, or an adapter that is no plain LoRA.</exception>
    public static MixedAdapter Load(string text, ModelConfig config, IBackend backend)
    {
        List<(LoraAdapter Adapter, float Weight)> parts = [];
        try
        {
            foreach ((string folder, float weight) in Parse(text))
            {
                IAdapter adapter = Adapters.Load(folder, config, backend);
                parts.Add((Plain(adapter, folder), weight));
            }

            return new MixedAdapter(parts);
        }
        catch
        {
            parts.ForEach(part => part.Adapter.Dispose());
            throw;
        }
    }

    /// <inheritdoc/>
    public void Attach(CausalModel model)
    {
        foreach ((LoraAdapter adapter, float weight) in _parts)
        {
            adapter.AttachScaled(model, weight);
        }
    }

    /// <inheritdoc/>
    public void AddTo(ParameterSet parameters) => Refuse("trained");

    /// <inheritdoc/>
    public void Save(string folder) => Refuse("saved");

    /// <inheritdoc/>
    public void Refresh()
    {
    }

    /// <inheritdoc/>
    public void AddDelta(LinearSpec linear, Tensor matrix)
    {
        foreach ((LoraAdapter adapter, float weight) in _parts)
        {
            adapter.AddScaled(linear, matrix, weight);
        }
    }

    /// <inheritdoc/>
    public void MergeBias(LinearSpec linear, Tensor bias)
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach ((LoraAdapter adapter, _) in _parts)
        {
            adapter.Dispose();
        }
    }

    /// <summary>The adapter, if it is one that can be summed.</summary>
    internal static LoraAdapter Plain(IAdapter adapter, string name)
    {
        if (adapter is LoraAdapter { Settings.UseDora: false, Head: null } lora)
        {
            return lora;
        }

        adapter.Dispose();
        Throw.Usage($"adapter {name} cannot be mixed with others", "only LoRA adapters without DoRA and without a head add something to their base that can be summed", "use it alone");
        return null!;
    }

    private static IEnumerable<(string Folder, float Weight)> Parse(string text)
    {
        foreach (string item in text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            int sign = item.LastIndexOf('=');
            if (sign <= 0 || !float.TryParse(item[(sign + 1)..], CultureInfo.InvariantCulture, out float weight) || !float.IsFinite(weight))
            {
                Throw.Usage($"adapter '{item}' is no FOLDER=WEIGHT", "adapters are mixed with a number for each", "write for example --adapter one=0.7,two=0.3");
                continue;
            }

            yield return (item[..sign], weight);
        }
    }

    private static void Refuse(string what) =>
        Throw.Usage($"a mixture of adapters cannot be {what}", "it is a sum of finished ones", "merge it into the base with nibble merge, or use one adapter");
}
