using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>
/// Folders whose <c>quantization_config</c> and tensors say different things, in every layout: each key of the section with values that it cannot have, each
/// tensor of a module missing, of another shape and of another type. The reader refuses, or the weights are what they were; nothing else happens.
/// </summary>
public sealed class LyingSectionTests : IDisposable
{
    private const string Module = "model.layers.0.mlp.up_proj";

    // Written down in the file and nowhere else: another value makes other weights of the same tensors, and no reader can know.
    private static readonly string[] Meanings =
        ["checkpoint_format", "format", "sym", "symmetric", "llm_int8_threshold", "linear_class", "bnb_4bit_quant_type", "observer", "version", "axis", "weights", "quant_type", "zero_point", "quant_method", "load_in_8bit", "load_in_4bit", "activations"];

    private static readonly string?[] Lies = ["0", "-1", "3", "7", "64", "4294967296", "1e300", "\"x\"", "true", "[]", "{}", "null"];

    private readonly TempFolder _folder = new();

    public static TheoryData<string, string> Layouts => new()
    {
        { "bitsandbytes-4bit", "nf4" }, { "bitsandbytes-4bit", "nf4:double_quant=true" }, { "bitsandbytes-int8", "int8" }, { "compressed-tensors", "rtn:bits=3,group_size=16" },
        { "quanto", "quanto:bits=4" }, { "quanto", "quanto:bits=8,activation_bits=8" }, { "hqq", "hqq:bits=3,group_size=16" }, { "gptq", "rtn:group_size=16" }, { "awq", "rtn:group_size=16" }, { "bitnet", "ternary" },
    };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Layouts))]
    public void Keys_with_other_values_are_refused_or_change_nothing(string layout, string method)
    {
        string path = Path.Combine(Write(layout, method), "config.json"), text = File.ReadAllText(path), before = Digest();
        int cases = 0, refused = 0;
        foreach (string[] key in Leaves(JsonNode.Parse(text)!["quantization_config"]!, []))
        {
            foreach (string? lie in Lies)
            {
                JsonObject config = JsonNode.Parse(text)!.AsObject();
                JsonNode section = config["quantization_config"]!;
                foreach (string part in key[..^1])
                {
                    section = section[part]!;
                }

                section[key[^1]] = lie is null ? null : JsonNode.Parse(lie);
                File.WriteAllText(path, config.ToJsonString());
                cases++;
                string what = $"{string.Join('/', key)} = {lie}";
                Exception? error = Record.Exception(() =>
                {
                    string after = Digest();
                    Assert.True(after == before || Meanings.Contains(key[^1]), $"{what}: other weights without a word");
                });
                Assert.True(error is null or NibbleException { Kind: ErrorKind.BadInput }, $"{what}: {error}");
                refused += error is null ? 0 : 1;
            }
        }

        Assert.True(cases >= 12 && refused >= 5, $"{refused} of {cases}");
    }

    [Fact]
    public void Groups_of_compressed_tensors_that_mean_something_else_are_refused()
    {
        string path = Path.Combine(Write("compressed-tensors", "rtn:bits=3,group_size=16"), "config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        JsonObject groups = config["quantization_config"]!["config_groups"]!.AsObject();
        JsonObject group = groups.Single().Value!.AsObject();
        groups.Clear();
        // A name is data: no character of it means anything.
        groups["a|b"] = group;
        File.WriteAllText(path, config.ToJsonString());
        Digest();
        foreach ((string key, string value, string why) in new[]
        {
            ("input_activations", "{\"num_bits\": 8, \"type\": \"int\", \"dynamic\": true}", "rounds activations as well"),
            ("output_activations", "{}", "rounds activations as well"),
            ("targets", "[\"re:(\"]", "cannot be used"),
            ("targets", "[\"re:(([a-z._0-9]+)+)+#\"]", "cannot be used"),
        })
        {
            JsonNode? before = group[key]?.DeepClone();
            group[key] = JsonNode.Parse(value);
            File.WriteAllText(path, config.ToJsonString());
            group[key] = before;
            Assert.Contains(why, Assert.Throws<NibbleException>(() => Digest()).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Layouts))]
    public void Tensors_that_are_missing_or_other_ones_are_refused(string layout, string method)
    {
        string path = Path.Combine(Write(layout, method), "model.safetensors");
        byte[] whole = File.ReadAllBytes(path);
        string[] names;
        using (SafetensorsFile file = SafetensorsFile.Open(path))
        {
            // hqq's names of dtypes are texts that only hqq itself looks at.
            names = [.. file.Entries.Keys.Where(name => name.StartsWith(Module, StringComparison.Ordinal) && !name.EndsWith("_dtype", StringComparison.Ordinal))];
        }

        Assert.NotEmpty(names);
        foreach (string name in names)
        {
            Change(path, whole, name, _ => null);
            Refused($"{name} missing");
            Change(path, whole, name, tensor => tensor.Shape.Rank == 0 ? null : Tensor.OnHost(new Shape(tensor.Shape[0] + 1, tensor.Shape.Rank > 1 ? tensor.Shape[1] : 1), tensor.DType));
            Refused($"{name} with a row more");
            // Flags that only other readers look at (hqq's settings, quanto's scales of activations) are single numbers: theirs may be anything.
            bool flag = false;
            Change(path, whole, name, tensor => (flag = tensor.Shape.Rank == 0) ? Copy(tensor) : Tensor.OnHost(new Shape(1), DType.I64));
            if (!flag)
            {
                Refused($"{name} as one whole number");
                bool one = false;
                Change(path, whole, name, tensor => (one = tensor.Shape.Count == 1) ? Copy(tensor) : Tensor.OnHost(new Shape(), tensor.DType));
                if (!one)
                {
                    Refused($"{name} as a single value");
                }
            }
        }

        File.WriteAllBytes(path, whole);
        Digest();

        void Refused(string what)
        {
            Exception? error = Record.Exception(() => Digest());
            Assert.True(error is NibbleException { Kind: ErrorKind.BadInput or ErrorKind.NotFound }, $"{layout}, {what}: {error?.ToString() ?? "read"}");
        }
    }

    private static void Change(string path, byte[] whole, string name, Func<Tensor, Tensor?> change)
    {
        File.WriteAllBytes(path, whole);
        List<(string Name, Tensor Tensor)> kept = [];
        using (SafetensorsFile file = SafetensorsFile.Open(path))
        {
            foreach (string item in file.Entries.Keys)
            {
                using Tensor stored = file.Load(item);
                Tensor? tensor = item == name ? change(stored) : Copy(stored);
                if (tensor is not null)
                {
                    kept.Add((item, tensor));
                }
            }
        }

        Safetensors.Save(path, kept);
        kept.ForEach(item => item.Tensor.Dispose());
    }

    private static unsafe Tensor Copy(Tensor tensor)
    {
        Tensor copy = Tensor.OnHost(tensor.Shape, tensor.DType);
        Buffer.MemoryCopy(tensor.HostPointer, copy.HostPointer, copy.ByteLength, copy.ByteLength);
        return copy;
    }

    private static IEnumerable<string[]> Leaves(JsonNode node, string[] path)
    {
        foreach ((string key, JsonNode? value) in node.AsObject())
        {
            yield return [.. path, key];
            if (value is JsonObject { Count: > 0 })
            {
                foreach (string[] leaf in Leaves(value, [.. path, key]))
                {
                    yield return leaf;
                }
            }
        }
    }

    private string Write(string layout, string method)
    {
        string model = MethodTable.WriteModel(_folder["model"], "llama");
        Quantizer.Run(model, _folder["out"], new PlanRequest(PlanOverride.Parse("*=" + method).Settings!) { Layout = layout }, new QuantizerOptions { Calibration = MethodTable.Calibration(_folder.Path), Force = true });
        return _folder["out"];
    }

    /// <summary>A hash of all weights as they are read.</summary>
    private string Digest()
    {
        HfFolder folder = HfFolder.Open(_folder["out"]);
        try
        {
            IArchitecture architecture = Registry.Architecture(folder.Config);
            using QuantizedWeightSource source = new(folder, architecture);
            ModelBuilder.Check(architecture, folder.Config, source);
            return string.Concat(architecture.Linears(folder.Config).Where(source.IsQuantized).Select(spec =>
            {
                using QuantizedWeight weight = source.Read(spec);
                return WeightDigest.Of(weight);
            }));
        }
        finally
        {
            folder.Dispose();
        }
    }
}
