using Nibble.Backends;
using Nibble.IO;
using Nibble.Nn;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Models;

/// <summary>
/// A weight source as full fine-tuning needs it: every matrix dense in one dtype, quantized ones as the values of their codes, and
/// every other tensor as F32.
/// </summary>
/// <param name="inner">The source, which this one then owns.</param>
/// <param name="dtype">Dtype of the matrices: F32 or BF16.</param>
internal sealed class FloatWeightSource(IWeightSource inner, DType dtype = DType.F32) : IWeightSource
{
    public string Source => inner.Source;

    /// <summary>The source below.</summary>
    public IWeightSource Inner => inner;

    public IReadOnlyCollection<string> Names => inner.Names;

    public Shape? ShapeOf(string name) => inner.ShapeOf(name);

    public Tensor Tensor(string name)
    {
        using Tensor stored = inner.Tensor(name);
        return stored.To(DType.F32);
    }

    public string? Problem(LinearSpec spec) => inner.Problem(spec);

    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        if (spec.Ternary)
        {
            Throw.Usage(
                $"{Source} can't be trained as a whole", "its architecture computes with ternary weights, which no gradient moves", "train an adapter beside it: --method lora");
        }

        if (inner.Activations(spec) is not null)
        {
            Throw.Usage($"{Source} can't be trained as a whole", "its layers round their activations on fixed scales, through which no gradient is defined", "train the dense model, or quantize without --activation-bits");
        }

        IPackedWeight packed = inner.Linear(spec, backend);
        using RepairTerm? repair = inner.Repair(spec, backend);
        if (repair is null && packed.Name == dtype.ToString().ToLowerInvariant())
        {
            return packed;
        }

        using (packed)
        using (Tensor values = ParameterRows.Dense(backend, packed))
        {
            if (repair is not null)
            {
                LoraMerge.Add(values, repair.A, repair.B, 1, backend);
            }

            using Tensor converted = values.To(dtype);
            return backend.Prepare(converted);
        }
    }

    public void Dispose() => inner.Dispose();
}
