using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>One tensor of an adapter: its name and shape in PEFT's file, and where its numbers are.</summary>
/// <param name="Name">Name in the file.</param>
/// <param name="Shape">Shape in the file.</param>
/// <param name="Holder">A packing, or a vector of F32.</param>
internal sealed record AdapterTensor(string Name, Shape Shape, object Holder)
{
    /// <summary>Factor on the learning rate.</summary>
    public double RateFactor { get; init; } = 1;

    public long ByteLength => Holder is IPackedWeight weight ? weight.ByteLength : ((Tensor)Holder).ByteLength;

    /// <summary>The numbers on the host, in the file's shape; the caller disposes them.</summary>
    public Tensor Read(IBackend backend)
    {
        if (Holder is IPackedWeight weight)
        {
            return ParameterRows.Dense(backend, weight);
        }

        Tensor host = Tensor.OnHost(Shape, DType.F32);
        backend.Read<float>((Tensor)Holder, host.HostSpan<float>());
        return host;
    }
}

/// <summary>What adapters of all kinds share: PEFT's files, the trained tensors, and a head that was trained as a whole.</summary>
/// <param name="backend">Where the tensors live.</param>
/// <param name="head">The head of <c>modules_to_save</c>, which the adapter then owns; null without one.</param>
public abstract class PeftAdapter(IBackend backend, SavedHead? head) : IAdapter
{
    /// <summary>What PEFT puts before a module's path.</summary>
    internal const string Prefix = "base_model.model.";

    /// <inheritdoc/>
    public long ByteLength => All.Sum(tensor => tensor.ByteLength);

    /// <summary>Numbers that are trained.</summary>
    public long ParameterCount => All.Sum(tensor => (long)tensor.Shape.Count);

    /// <summary>Where the tensors live.</summary>
    internal IBackend Backend => backend;

    /// <summary>The head of <c>modules_to_save</c>.</summary>
    internal SavedHead? Head => head;

    /// <summary>Embeddings that stand before the tokens of a training pass, or null.</summary>
    internal virtual IPackedWeight? Prompt => null;

    /// <summary>The tensors of the adapter's kind, in the order in which they are trained.</summary>
    private protected abstract IEnumerable<AdapterTensor> Own { get; }

    private IEnumerable<AdapterTensor> All => head is null ? Own : Own.Append(head.Tensor);

    /// <inheritdoc/>
    public virtual void Attach(CausalModel model) => head?.Attach(model);

    /// <inheritdoc/>
    public virtual void Refresh()
    {
    }

    /// <inheritdoc/>
    public virtual void AddTo(ParameterSet parameters)
    {
        foreach (AdapterTensor tensor in All)
        {
            if (tensor.Holder is IPackedWeight weight)
            {
                parameters.Add(tensor.Name, weight, backend, tensor.RateFactor);
            }
            else
            {
                parameters.Add(tensor.Name, (Tensor)tensor.Holder, backend);
            }
        }
    }

    /// <inheritdoc/>
    public void Save(string folder)
    {
        List<(string Name, Tensor Tensor)> tensors = [.. SavedTensors()];
        if (head is not null)
        {
            tensors.Add((head.Tensor.Name, head.Tensor.Read(backend)));
        }

        try
        {
            Safetensors.Save(Path.Combine(folder, PeftConfig.WeightsName), tensors);
        }
        finally
        {
            tensors.ForEach(item => item.Tensor.Dispose());
        }

        PeftConfig.Write(Path.Combine(folder, PeftConfig.FileName), Config());
    }

    /// <inheritdoc/>
    public virtual void AddDelta(LinearSpec linear, Tensor matrix) => head?.CopyTo(linear, matrix, backend);

    /// <inheritdoc/>
    public virtual void MergeBias(LinearSpec linear, Tensor bias)
    {
    }

    /// <inheritdoc/>
    public virtual void Dispose()
    {
        foreach (IDisposable holder in All.Select(tensor => (IDisposable)tensor.Holder))
        {
            holder.Dispose();
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>The tensors of the file, the head's left out; the caller disposes them.</summary>
    private protected virtual IEnumerable<(string Name, Tensor Tensor)> SavedTensors() => Own.Select(tensor => (tensor.Name, tensor.Read(backend)));

    /// <summary>The settings of adapter_config.json, without what all kinds share.</summary>
    private protected abstract IDictionary<string, object?> ConfigValues();

    private SortedDictionary<string, object?> Config()
    {
        SortedDictionary<string, object?> values = new(ConfigValues(), StringComparer.Ordinal)
        {
            ["auto_mapping"] = null,
            ["inference_mode"] = true,
            ["modules_to_save"] = head is null ? null : new[] { SavedHead.Path },
            ["revision"] = null,
            ["task_type"] = head is null ? "CAUSAL_LM" : "SEQ_CLS",
        };
        return values;
    }
}
