using System.Text.Json;
using System.Text.Json.Nodes;
using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Writes a model as a dense folder: a tuned one, or a base with an adapter merged into its matrices.</summary>
public static class MergedModel
{
    /// <summary>Writes all tensors in <paramref name="dtype"/>, one at a time, with config and tokenizer.</summary>
    /// <param name="model">The model; its linear layers give their values whatever their packing.</param>
    /// <param name="config">Its config.</param>
    /// <param name="sourceFolder">Where tokenizer files are copied from.</param>
    /// <param name="adapter">Added to the matrices; null writes the model as it is.</param>
    /// <param name="dtype">F32, BF16 or F16.</param>
    /// <param name="output">An existing folder.</param>
    public static void Write(CausalModel model, ModelConfig config, string sourceFolder, IAdapter? adapter, DType dtype, string output)
    {
        IArchitecture architecture = Registry.Architecture(config);
        IReadOnlyList<LinearSpec> linears = architecture.Linears(config);
        IReadOnlyList<TensorSpec> vectors = architecture.Vectors(config);
        Dictionary<string, object> holders = model.Parameters.ToDictionary(item => item.Name, item => item.Holder);
        Dictionary<string, RepairTerm> repairs = model.Repairs.ToDictionary(item => item.Path, item => item.Term);
        Dictionary<string, LinearSpec> biases = linears.Where(spec => spec.HasBias).ToDictionary(spec => spec.BiasName);
        using HfFolderWriter writer = new(
            output,
            linears.Select(spec => new SafetensorsSpec(spec.WeightName, dtype, spec.StoredShape)).Concat(vectors.Select(spec => new SafetensorsSpec(spec.Name, dtype, spec.Shape))));
        foreach (LinearSpec spec in linears)
        {
            using Tensor matrix = ParameterRows.Dense(model.Backend, (IPackedWeight)holders[spec.WeightName]);
            if (repairs.TryGetValue(spec.Path, out RepairTerm? repair))
            {
                LoraMerge.Add(matrix, repair.A, repair.B, 1, model.Backend);
            }

            adapter?.AddDelta(spec, matrix);
            using Tensor stored = spec.StoredTransposed ? Transpose.Of(matrix) : matrix.Reshape(matrix.Shape);
            Append(writer, spec.WeightName, stored, dtype);
        }

        foreach (TensorSpec spec in vectors)
        {
            using Tensor values = holders[spec.Name] is IPackedWeight table ? ParameterRows.Dense(model.Backend, table) : Download(model.Backend, (Tensor)holders[spec.Name]);
            if (biases.TryGetValue(spec.Name, out LinearSpec? linear))
            {
                adapter?.MergeBias(linear, values);
            }

            Append(writer, spec.Name, values, dtype);
        }

        writer.Commit();
        writer.WriteConfig(DenseConfig(config, dtype));
        writer.CopyFiles(sourceFolder);
    }

    private static void Append(HfFolderWriter writer, string name, Tensor values, DType dtype)
    {
        FiniteCheck.Require(values, name, "the merged model");
        using Tensor converted = values.To(dtype);
        writer.Append(name, converted);
    }

    private static Tensor Download(IBackend backend, Tensor tensor)
    {
        Tensor host = Tensor.OnHost(tensor.Shape, DType.F32);
        backend.Read<float>(tensor, host.HostSpan<float>());
        return host;
    }

    private static JsonElement DenseConfig(ModelConfig config, DType dtype)
    {
        JsonObject root = JsonNode.Parse(config.Root.Element.GetRawText())!.AsObject();
        root.Remove("quantization_config");
        root.Remove(RepairFolder.Key);
        root.Remove("dtype");
        root["torch_dtype"] = dtype switch { DType.BF16 => "bfloat16", DType.F16 => "float16", _ => "float32" };
        return DocumentJson.Element(root);
    }
}
