using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>Affine codes: kept in 2, 3, 4 or 8 bits, whichever holds them; scales in their stored dtype, whole offsets in a byte.</summary>
internal class AffineCudaPacking : QuantizedCudaPacking
{
    private readonly AffineFacts _facts;
    private readonly CudaStorage _scales;
    private readonly CudaStorage? _offsets;
    private readonly float[] _levels = [];

    public AffineCudaPacking(CachingMemory memory, AffineWeight weight, ActivationType activations)
        : base(memory, weight, Container(weight.Bits), (1 << weight.Bits) - 1, activations)
    {
        _facts = new(weight.Bits, weight.GroupSize, weight.ScaleDType, weight.Form, weight.Order, weight.ColumnGroups, weight.Symmetric);
        Group(weight.Order, weight.GroupSize, weight.Groups, weight.ColumnGroups);
        _scales = KeepAs(weight.Scales, weight.ScaleDType, out Argument.ScaleType);
        Argument.Scales = _scales.Address;
        Argument.BiasForm = weight.Form == AffineForm.Bias ? 1 : 0;
        float[] offsets = weight.Offsets;
        Argument.Offset = offsets.Length > 0 ? offsets[0] : 0;
        if (Array.TrueForAll(offsets, z => Same(z, offsets[0])))
        {
            _levels = LevelsOf(weight, Argument.Offset);
            Argument.Levels = _levels.Length > 0 ? Keep<float>(_levels).Address : 0;
            return;
        }

        bool whole = Array.TrueForAll(offsets, z => z is >= 0 and <= 255 && Same((byte)z, z));
        Argument.OffsetType = whole ? CudaNumber.U8 : CudaNumber.F32;
        _offsets = whole ? Keep<byte>(Array.ConvertAll(offsets, z => (byte)z)) : Keep<float>(offsets);
        Argument.Offsets = _offsets.Address;
    }

    public override string Format => "affine" + Container(_facts.Bits);

    public override ReadOnlySpan<float> Levels => _levels;

    /// <summary>Without offsets of their own, codes of 4 bits are a codebook's to tensor cores: less work than codes and offsets.</summary>
    protected override string TensorCodes => _levels.Length > 0 ? "codebook4" : Format;

    public override QuantizedWeight Unpack()
    {
        float[] scales = ReadFloats(_scales, Argument.ScaleType);
        float[] offsets = new float[scales.Length];
        Array.Fill(offsets, Argument.Offset);
        return new AffineWeight(
            UnpackCodes(), _facts.Bits, _facts.GroupSize, scales, _offsets is null ? offsets : ReadFloats(_offsets, Argument.OffsetType),
            _facts.ScaleDType, _facts.Form, _facts.Order, _facts.Map, _facts.Symmetric);
    }

    // What codes of 4 bits stand for but for their scale, if all share a whole offset: exact in BF16.
    private static float[] LevelsOf(AffineWeight weight, float offset) =>
        Container(weight.Bits) == 4 && weight.Form == AffineForm.ZeroPoint && float.IsInteger(offset) && Math.Abs(offset) < 200
            ? [.. Enumerable.Range(0, 16).Select(code => code - offset)]
            : [];

    private static int Container(int bits) => bits switch { 1 or 2 => 2, 3 or 4 => bits, _ => 8 };

    private sealed record AffineFacts(int Bits, int GroupSize, DType ScaleDType, AffineForm Form, GroupOrder Order, int[]? Map, bool Symmetric);
}
