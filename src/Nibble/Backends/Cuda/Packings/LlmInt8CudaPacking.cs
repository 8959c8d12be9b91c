using Nibble.IO;
using Nibble.Quantization;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>
/// LLM.int8: an 8-bit weight with one scale a row, whose product keeps outlier columns of x as they are and rounds the rest to int8.
/// Which columns are outliers depends on all rows of the call.
/// </summary>
internal sealed class LlmInt8CudaPacking : AffineCudaPacking
{
    // Outlier columns so far, and all columns: kernels count, so that recorded steps do.
    private readonly CudaStorage _counts;

    public LlmInt8CudaPacking(CachingMemory memory, AffineWeight weight, float threshold)
        : base(memory, weight, ActivationType.Int8)
    {
        Threshold = threshold;
        if (weight.Bits != 8 || weight.GroupsPerRow > 1 || weight.Order != GroupOrder.AlongRow || !(threshold >= 0))
        {
            Dispose();
            Throw.Argument(
                "prepare int8", $"LLM.int8 needs 8 bits, one group a row (group size {weight.GroupSize} of {weight.In}) and a threshold ≥ 0, not {threshold}");
        }

        _counts = Keep<ulong>([0, 0]);
    }

    /// <summary>Magnitude from which an activation is an outlier; none is if it is 0.</summary>
    public float Threshold { get; }

    public override string Name => "llm-int8";

    public override double? OutlierShare => Read<ulong>(_counts) is [var outliers, var columns] && columns > 0 ? (double)outliers / columns : 0;

    /// <summary>Where kernels count.</summary>
    public nint Counts => _counts.Address;
}
