using Nibble.IO;
using Nibble.Quantization;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>
/// LLM.int8: an 8-bit weight with one scale a row, whose product keeps outlier columns of x as they are and rounds the rest to int8.
/// Which columns are outliers depends on all rows of the call.
/// </summary>
internal sealed class LlmInt8CudaPacking : AffineCudaPacking
{
    private readonly CudaStorage _outliers;
    private long _columns;

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

        _outliers = Keep<ulong>([0]);
    }

    /// <summary>Magnitude from which an activation is an outlier; none is if it is 0.</summary>
    public float Threshold { get; }

    public override string Name => "llm-int8";

    public override double? OutlierShare => _columns == 0 ? 0 : (double)Read<ulong>(_outliers)[0] / _columns;

    /// <summary>Counts the columns of a call and says where the kernel counts outliers.</summary>
    public nint CountCall()
    {
        _columns += In;
        return _outliers.Address;
    }
}
