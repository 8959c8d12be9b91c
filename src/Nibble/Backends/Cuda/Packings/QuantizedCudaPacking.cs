using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>What packings of quantized weights share: the words of codes, and the kind of activations.</summary>
internal abstract class QuantizedCudaPacking : CudaPacking
{
    private readonly int _bits;
    private readonly CudaStorage _words;

    protected QuantizedCudaPacking(CachingMemory memory, QuantizedWeight weight, int bits, int largest, ActivationType activations)
        : base(memory, weight.Out, weight.In)
    {
        (_bits, Activations) = (bits, activations);
        _words = Keep<uint>(CodeWords.Pack(weight.Codes, bits, largest));
        Argument.Codes = _words.Address;
        Argument.TileWords = CodeWords.PerTile(weight.In, bits);
    }

    public override ActivationType Activations { get; }

    public override string Name => Format;

    /// <summary>Groups of whole rows, or of 32 columns, or of a power of two from 64 on: what lanes of a fragment can share.</summary>
    public override string? TensorFormat =>
        Argument.GroupMode != CudaGroups.OfRow || Argument.GroupShift < 5 ? null : Argument.GroupShift == 5 ? TensorCodes + CudaKernelNames.Small : TensorCodes;

    /// <summary>As what tensor cores read the codes.</summary>
    protected virtual string TensorCodes => Format;

    protected Tensor UnpackCodes() => CodeWords.Unpack(Read<uint>(_words), Out, In, _bits);

    protected void Group(GroupOrder order, int size, nint groups, int[]? map)
    {
        bool fits = order == GroupOrder.AlongRow || (order == GroupOrder.Flat && In % size == 0);
        Argument.GroupMode = map is not null ? CudaGroups.Mapped : fits ? CudaGroups.OfRow : order == GroupOrder.Flat ? CudaGroups.Flat : CudaGroups.Strided;
        Argument.GroupsPerRow = (In + size - 1) / size;
        Argument.Groups = groups;
        Argument.GroupSize = size;
        // One group a row, whatever its length: every column shifts to 0.
        bool whole = size >= In && fits;
        Argument.GroupShift = whole ? 62 : int.IsPow2(size) ? int.Log2(size) : -1;
        if (map is not null)
        {
            Argument.Map = Keep<int>(map).Address;
        }
    }

    /// <summary>Keeps numbers in the dtype that they are already rounded to.</summary>
    protected CudaStorage KeepAs(float[] values, DType dtype, out CudaNumber type)
    {
        type = dtype switch
        {
            DType.F16 when Array.TrueForAll(values, v => Same((float)(Half)v, v)) => CudaNumber.F16,
            DType.BF16 when Array.TrueForAll(values, v => (BitConverter.SingleToUInt32Bits(v) & 0xffff) == 0) => CudaNumber.BF16,
            _ => CudaNumber.F32,
        };
        return type switch
        {
            CudaNumber.F16 => Keep<Half>(Array.ConvertAll(values, v => (Half)v)),
            CudaNumber.BF16 => Keep<ushort>(Array.ConvertAll(values, v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16))),
            _ => Keep<float>(values),
        };
    }

    protected float[] ReadFloats(CudaStorage storage, CudaNumber type) => type switch
    {
        CudaNumber.F16 => Array.ConvertAll(Read<Half>(storage), v => (float)v),
        CudaNumber.BF16 => Array.ConvertAll(Read<ushort>(storage), v => BitConverter.UInt32BitsToSingle((uint)v << 16)),
        CudaNumber.U8 => Array.ConvertAll(Read<byte>(storage), v => (float)v),
        _ => Read<float>(storage),
    };

    protected static bool Same(float a, float b) => BitConverter.SingleToInt32Bits(a) == BitConverter.SingleToInt32Bits(b);
}
