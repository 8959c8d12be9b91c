using Nibble.Backends;
using Nibble.Models;
using Nibble.Quantization;

namespace Nibble.Evaluation;

/// <summary>What a loaded model's weights take.</summary>
/// <param name="Bytes">In the backend's memory.</param>
/// <param name="BitsPerParameter">All of them, over all parameters.</param>
/// <param name="BitsPerWeight"><see cref="WeightFacts.StoredBits"/> of the quantized matrices and bits of their repairs, by their elements; null for a dense model.</param>
/// <param name="Packings">Number of matrices in each packing.</param>
/// <param name="OutlierShare">LLM.int8: share of activation columns that were multiplied in high precision; null for others.</param>
public sealed record WeightSizes(long Bytes, double BitsPerParameter, double? BitsPerWeight, IReadOnlyDictionary<string, int> Packings, double? OutlierShare)
{
    /// <summary>Measures a model.</summary>
    public static WeightSizes Of(CausalModel model)
    {
        Dictionary<(nint, nint, string, nint), double> known = [];
        double bits = 0, count = 0;
        List<double> outliers = [];
        foreach ((string _, IPackedWeight weight) in model.Weights)
        {
            // Sizes follow from shape and form, so one matrix of each is enough.
            (nint, nint, string, nint) form = (weight.Out, weight.In, weight.Name, weight.ByteLength);
            if (!known.TryGetValue(form, out double stored))
            {
                using QuantizedWeight? quantized = weight.Unpack();
                known[form] = stored = quantized?.StoredBits ?? 0;
            }

            (bits, count) = stored > 0 ? (bits + stored, count + ((double)weight.Out * weight.In)) : (bits, count);
            if (weight.OutlierShare is { } share)
            {
                outliers.Add(share);
            }
        }

        bits += model.Repairs.Sum(item => item.Term.StoredBits);
        return new WeightSizes(
            model.WeightBytes,
            model.WeightBytes * 8.0 / model.ParameterCount,
            count > 0 ? bits / count : null,
            model.Weights.GroupBy(item => item.Weight.Name).ToDictionary(group => group.Key, group => group.Count()),
            outliers.Count > 0 ? outliers.Average() : null);
    }
}
