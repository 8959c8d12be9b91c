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
            ActivationChoice.Auto => weight is TernaryWeight,
            _ => false,
        };
        return backend.Prepare(weight, int8 && spec.Role != LinearRole.Embedding ? ActivationType.Int8 : ActivationType.F32);
    }
}
