using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>Single precision.</summary>
internal sealed class F32Codec() : GgufCodec(GgufType.F32)
{
    public override bool CanEncode => true;

    protected override void DecodeBlock(ReadOnlySpan<byte> block, Span<float> values) => values[0] = BinaryPrimitives.ReadSingleLittleEndian(block);

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        BinaryPrimitives.WriteSingleLittleEndian(block, values[0]);
        return true;
    }
}

/// <summary>Half precision.</summary>
internal sealed class F16Codec() : GgufCodec(GgufType.F16)
{
    public override bool CanEncode => true;

    protected override void DecodeBlock(ReadOnlySpan<byte> block, Span<float> values) => values[0] = Half(block);

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block) => PutHalf(values[0], block);
}

/// <summary>bfloat16.</summary>
internal sealed class BF16Codec() : GgufCodec(GgufType.BF16)
{
    public override bool CanEncode => true;

    protected override void DecodeBlock(ReadOnlySpan<byte> block, Span<float> values) =>
        TensorConvert.BF16ToF32(MemoryMarshal.Cast<byte, ushort>(block), values);

    protected override bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        TensorConvert.F32ToBF16(values, MemoryMarshal.Cast<byte, ushort>(block));
        return true;
    }
}

/// <summary>Double precision, rounded to single.</summary>
internal sealed class F64Codec() : GgufCodec(GgufType.F64)
{
    protected override void DecodeBlock(ReadOnlySpan<byte> block, Span<float> values) => values[0] = (float)BinaryPrimitives.ReadDoubleLittleEndian(block);
}
