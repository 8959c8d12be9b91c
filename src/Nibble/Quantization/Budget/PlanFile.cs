using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;

namespace Nibble.Quantization.Budget;

/// <summary>
/// A plan as a file that can be edited and used again: the <c>plan</c> of <see cref="QuantizationReport.FileName"/>, or a document of its
/// own. Every matrix of the model must be in it, so that a plan cannot leave one out without a word.
/// </summary>
public static class PlanFile
{
    private static readonly JsonSerializerOptions Json = DocumentJson.Known(new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = System.Text.Json.Serialization.JsonIgnoreCondition.WhenWritingNull,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });

    /// <summary>Writes a plan.</summary>
    public static void Write(string path, QuantPlan plan) => AtomicFile.WriteAllText(path, DocumentJson.Text(plan.ToDocument(), Json) + "\n");

    /// <summary>Reads a plan for a model: an override for each of its matrices.</summary>
    /// <exception cref="NibbleException">Not a plan, or not one of this model: all differences are listed.</exception>
    public static PlanRequest Read(string path, ModelConfig config)
    {
        if (!File.Exists(path))
        {
            Throw.NotFound($"plan {path} does not exist", remedy: "make one with --budget and --save-plan, or name a nibble_quantization.json");
        }

        JsonConfig root = JsonConfig.Open(path);
        JsonConfig document = root.Section("plan") ?? root;
        if (document.GetInt("schema") != 1)
        {
            document.Refuse("schema", "plans of schema 1 are read", "make the plan again");
        }

        IReadOnlyList<JsonConfig> tensors = document.Sections("tensors");
        RequireModel(path, tensors, Registry.Architecture(config).Linears(config));
        PlanOverride[] overrides = [.. tensors.Select(Override)];
        QuantizationSettings? main = overrides.Where(item => item.Settings is not null).GroupBy(item => item.Settings!).MaxBy(group => group.Count())?.Key;
        if (main is null)
        {
            Throw.BadInput($"{path}: the plan quantizes no matrix", "every method is none", "give some matrices a method");
        }

        return new PlanRequest(main!) { Overrides = overrides, Layout = document.GetString("layout", null) };
    }

    private static PlanOverride Override(JsonConfig tensor)
    {
        string path = tensor.GetString("path"), method = tensor.GetString("method");
        JsonObject settings = [];
        if (tensor.Section("settings") is { } chosen)
        {
            settings = JsonNode.Parse(chosen.Element.GetRawText())!.AsObject();
        }

        if (method != PlanOverride.Dense && tensor.GetInt("bits", 0) is var bits and > 0)
        {
            settings["bits"] = bits;
        }

        string keys = string.Join(',', settings.Select(item => $"{item.Key}={item.Value}"));
        PlanOverride read = PlanOverride.Parse($"{path}={method}{(keys.Length > 0 && method != PlanOverride.Dense ? ":" + keys : string.Empty)}");
        return new PlanOverride(path, read.Settings) { Reason = tensor.GetString("reason", "plan") };
    }

    private static void RequireModel(string path, IReadOnlyList<JsonConfig> tensors, IReadOnlyList<LinearSpec> specs)
    {
        Dictionary<string, LinearSpec> known = specs.ToDictionary(spec => spec.Path);
        string[] named = [.. tensors.Select(tensor => tensor.GetString("path"))];
        List<string> problems = [.. specs.Where(spec => !named.Contains(spec.Path)).Select(spec => $"{spec.Path} is missing")];
        problems.AddRange(named.Where(name => !known.ContainsKey(name)).Select(name => $"{name} is no matrix of the model"));
        problems.AddRange(named.GroupBy(name => name).Where(group => group.Count() > 1).Select(group => $"{group.Key} stands there {group.Count()} times"));
        foreach (JsonConfig tensor in tensors.Where(tensor => known.ContainsKey(tensor.GetString("path"))))
        {
            LinearSpec spec = known[tensor.GetString("path")];
            IReadOnlyList<int> shape = tensor.GetInts("shape");
            if (shape.Count > 0 && !(shape.Count == 2 && shape[0] == spec.Out && shape[1] == spec.In))
            {
                problems.Add($"{spec.Path} is [{string.Join(", ", shape)}] in the plan and [{spec.Out}, {spec.In}] in the model");
            }
        }

        if (problems.Count > 0)
        {
            Throw.BadInput($"{path} is no plan of this model: {string.Join("; ", problems.Take(20))}", $"{problems.Count} differences", "make a plan for this model");
        }
    }
}
