using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>
/// Every method of the registry with every width, and both values or several sizes of each setting that it takes: a new method is in the
/// table as soon as it is in the registry. And small random models to try them on, with the tokenizer of an embedded one.
/// </summary>
internal static class MethodTable
{
    public static IEnumerable<QuantizationSettings> Variants(IQuantizationMethod method)
    {
        QuantizationSettings defaults = method.Complete(new() { Method = method.Name });
        IEnumerable<QuantizationSettings> all = method.SupportedBits.Select(bits => new QuantizationSettings { Method = method.Name, Bits = bits });
        all = Vary(all, defaults.Symmetric is not null, new bool?[] { false, true }, (settings, value) => settings with { Symmetric = value });
        all = Vary(all, defaults.DoubleQuant is not null, new bool?[] { false, true }, (settings, value) => settings with { DoubleQuant = value });
        all = Vary(all, defaults.ActOrder is not null, new bool?[] { false, true }, (settings, value) => settings with { ActOrder = value });
        all = Vary(all, defaults.StaticGroups is not null, new bool?[] { false, true }, (settings, value) => settings with { StaticGroups = value });
        all = Vary(all, defaults.Axis is not null, new int?[] { 0, 1 }, (settings, value) => settings with { Axis = value });
        all = Vary(all, defaults.GroupSize > 0, new int?[] { 32, QuantizationSettings.WholeRow }, (settings, value) => settings with { GroupSize = value });
        return all.Select(Try).OfType<QuantizationSettings>().DistinctBy(settings => settings.ToString());

        // A method may refuse a combination of settings; what it takes alone is in the table all the same.
        QuantizationSettings? Try(QuantizationSettings settings)
        {
            try
            {
                return method.Complete(settings);
            }
            catch (NibbleException error) when (error.Kind == ErrorKind.Usage)
            {
                return null;
            }
        }
    }

    /// <summary>Two samples of a text that is read in no time: what is tried here is not what they say.</summary>
    public static CalibrationRequest Calibration(string folder)
    {
        string path = Path.Combine(folder, "calibration.txt");
        if (!File.Exists(path))
        {
            File.WriteAllText(path, File.ReadAllText(Path.Combine(TestData.Assets, "text", "calibration.txt"))[..4000]);
        }

        return new CalibrationRequest(path) { Samples = 2, Length = 64 };
    }

    /// <summary>Writes a random model whose rows fill the words of every layout.</summary>
    public static string WriteModel(string folder, string modelType, int blocks = 1)
    {
        Directory.CreateDirectory(folder);
        string assets = AssetFolder.Find(Path.Combine("assets", "nibble-llama-4m"));
        int vocabulary = ModelConfig.Open(assets).Text.GetInt("vocab_size");
        object config = modelType == "gpt2"
            ? new { model_type = "gpt2", n_embd = 64, n_head = 4, n_inner = 128, n_layer = blocks, n_positions = 128, vocab_size = vocabulary, activation_function = "gelu_new" }
            : new { model_type = "llama", hidden_size = 64, intermediate_size = 128, num_attention_heads = 4, num_hidden_layers = blocks, max_position_embeddings = 128, rms_norm_eps = 1e-5, vocab_size = vocabulary, tie_word_embeddings = true };
        File.WriteAllText(Path.Combine(folder, "config.json"), JsonSerializer.Serialize(config));
        foreach (string name in HfFolderWriter.TokenizerFiles.Where(name => File.Exists(Path.Combine(assets, name))))
        {
            File.Copy(Path.Combine(assets, name), Path.Combine(folder, name));
        }

        ModelConfig read = ModelConfig.Open(folder);
        IArchitecture architecture = Registry.Architecture(read);
        List<(string, Tensor)> tensors =
        [
            .. architecture.Linears(read).Select((spec, i) => (spec.WeightName, Random(spec.StoredShape, (ulong)i + 1, 0))),
            .. architecture.Vectors(read).Select((spec, i) => (spec.Name, Random(spec.Shape, (ulong)i + 101, spec.Name.Contains("norm", StringComparison.Ordinal) || spec.Name.Contains("ln_", StringComparison.Ordinal) ? 1 : 0))),
        ];
        Safetensors.Save(Path.Combine(folder, "model.safetensors"), tensors);
        tensors.ForEach(item => item.Item2.Dispose());
        return folder;
    }

    private static Tensor Random(Shape shape, ulong seed, float centre) =>
        Tensor.From<float>(shape, DType.F32, Array.ConvertAll(GoldenWeights.Values((int)shape.Count, seed), value => centre + (value * 0.1f)));

    private static IEnumerable<QuantizationSettings> Vary<T>(IEnumerable<QuantizationSettings> all, bool takes, T[] values, Func<QuantizationSettings, T, QuantizationSettings> set) =>
        takes ? all.SelectMany(settings => values.Select(value => set(settings, value))) : all;
}
