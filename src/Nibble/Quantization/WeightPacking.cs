using Nibble.Backends;
using Nibble.Models;

namespace Nibble.Quantization;

/// <summary>Chooses the packing of a quantized weight: what its kind requires first, then what was asked for.</summary>
internal static class WeightPacking
{
    public static IPackedWeight Pack(QuantizedWeight weight, LinearSpec spec, IBackend backend, ActivationChoice activations)
    {
        if (weight is AffineWeight { OutlierThreshold: { } threshold } affine && spec.Role != LinearRole.Embedding)
        {
            return backend.PrepareInt8(affine, threshold);
        }

        bool int8 = spec.Ternary || activations switch
        {
            ActivationChoice.Int8 => true,
            ActivationChoice.Auto => IsInt8Faster(weight),
            _ => false,
        };
        // A tied embedding is the head, too; rows are gathered in the same way from either packing.
        return backend.Prepare(weight, int8 ? ActivationType.Int8 : ActivationType.F32);
    }

    /// <summary>
    /// The rule of <c>--activations auto</c>. Measured on the CPU (bench <c>qgemv</c>), int8 activations are the faster choice for every
    /// kind and width, at all shapes from 256 × 256 on: 2 to 4 times. A packing that can't multiply them (act-order, groups that are no
    /// multiple of 32 columns, blocks that cross rows) stays with F32 and says so by <see cref="IPackedWeight.Activations"/>.
    /// </summary>
    public static bool IsInt8Faster(QuantizedWeight weight) => weight is AffineWeight or CodebookWeight or TernaryWeight;
}
