using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>A classification head that is trained as a whole beside an adapter: <c>modules_to_save: ["score"]</c>.</summary>
public sealed class SavedHead
{
    /// <summary>Its module path.</summary>
    internal const string Path = "score";

    /// <summary>Its name in the adapter's file.</summary>
    internal const string TensorName = PeftAdapter.Prefix + Path + ".weight";

    private static readonly string[] Names = [Path, "classifier"];

    private SavedHead(IPackedWeight weight) =>
        Tensor = new AdapterTensor(TensorName, new Shape(weight.Out, weight.In), weight);

    internal AdapterTensor Tensor { get; }

    private IPackedWeight Weight => (IPackedWeight)Tensor.Holder;

    /// <summary>A copy of a classifier's head to train, or null for a language model.</summary>
    public static SavedHead? Of(CausalModel model)
    {
        if (model.Facts.Labels == 0)
        {
            return null;
        }

        using Tensor values = ParameterRows.Dense(model.Backend, model.Head.Weight);
        return new SavedHead(model.Backend.Prepare(values));
    }

    /// <summary>True if an adapter has such a head; other modules to save are refused by name.</summary>
    internal static bool IsNamed(JsonConfig json)
    {
        IReadOnlyList<string> names = json.GetStrings("modules_to_save");
        if (names.Any(name => !Names.Contains(name)))
        {
            json.Refuse("modules_to_save", "the only module that can come whole with an adapter is a classification head (score)", "merge the adapter with PEFT first (merge_and_unload), then use the merged model");
        }

        // PEFT names both heads for every classifier, whichever the model has.
        return names.Contains(Path);
    }

    /// <summary>The tensors of the file that belong to the head.</summary>
    internal static IEnumerable<TensorSpec> Specs(JsonConfig json, ModelFacts facts)
    {
        if (!IsNamed(json))
        {
            return [];
        }

        if (facts.Labels == 0)
        {
            Throw.BadInput(
                $"{json.Source}: the adapter has a classification head, the base is a language model",
                "its config names no …ForSequenceClassification",
                "load it through LoadOptions.Adapter (or --adapter), which gives the base a head of as many labels");
        }

        return [new TensorSpec(TensorName, new Shape(facts.Labels, facts.Hidden))];
    }

    /// <summary>Reads the head, if the adapter has one.</summary>
    internal static SavedHead? Load(JsonConfig json, SafetensorsFile file, IBackend backend)
    {
        if (!IsNamed(json))
        {
            return null;
        }

        using Tensor values = AdapterFile.Floats(file, TensorName);
        return new SavedHead(backend.Prepare(values));
    }

    /// <summary>Takes the place of the model's head.</summary>
    internal void Attach(CausalModel model) => model.ReplaceHead(new PackedLinear(Path, Weight, null));

    /// <summary>Writes its numbers over the matrix if that is the head's.</summary>
    internal void CopyTo(LinearSpec linear, Tensor matrix, IBackend backend)
    {
        if (linear.Path == Path)
        {
            using Tensor values = Tensor.Read(backend);
            values.HostSpan<float>().CopyTo(matrix.HostSpan<float>());
        }
    }
}
