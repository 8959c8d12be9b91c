using System.Buffers.Binary;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>How an element type turns bytes into numbers and, where Nibble writes it, numbers into bytes.</summary>
internal abstract class GgufCodec(GgufType type)
{
    private static readonly Dictionary<GgufType, GgufCodec> All = new GgufCodec[]
    {
        new F32Codec(), new F16Codec(), new BF16Codec(), new F64Codec(),
        new Q4Codec(GgufType.Q4_0), new Q4MinCodec(), new Q5Codec(), new Q5MinCodec(), new Q8Codec(),
        new Q2KCodec(), new Q3KCodec(), new Q4KCodec(GgufType.Q4_K), new Q4KCodec(GgufType.Q5_K), new Q6KCodec(),
        new IQ4NLCodec(), new IQ4XSCodec(), new MXFP4Codec(), new TQ1Codec(), new TQ2Codec(),
    }.ToDictionary(codec => codec.Type);

    /// <summary>The element type.</summary>
    public GgufType Type { get; } = type;

    /// <summary>True if Nibble writes the type.</summary>
    public virtual bool CanEncode => false;

    /// <summary>Types that Nibble writes.</summary>
    public static IEnumerable<GgufType> Written => All.Values.Where(codec => codec.CanEncode).Select(codec => codec.Type);

    /// <summary>Types that Nibble reads.</summary>
    public static IEnumerable<GgufType> Readable => All.Keys;

    /// <summary>The codec of a type; types that Nibble cannot read are refused with the list of those it can.</summary>
    public static GgufCodec Require(GgufType type, string what)
    {
        if (!All.TryGetValue(type, out GgufCodec? codec))
        {
            Throw.BadInput($"{what} is of type {type}, which Nibble does not read", $"it reads {string.Join(", ", All.Keys)}", "use a file of one of these types");
        }

        return codec;
    }

    /// <summary>The codec of a type, or null.</summary>
    public static GgufCodec? Find(GgufType type) => All.GetValueOrDefault(type);

    /// <summary>The numbers of whole blocks.</summary>
    public void Decode(ReadOnlySpan<byte> bytes, Span<float> values)
    {
        int elements = Type.BlockElements(), size = Type.BlockBytes();
        for (int at = 0, from = 0; at < values.Length; at += elements, from += size)
        {
            DecodeBlock(bytes.Slice(from, size), values.Slice(at, elements));
        }
    }

    /// <summary>The bytes of whole blocks; false if a scale does not fit the half precision that the type stores it in.</summary>
    public bool Encode(ReadOnlySpan<float> values, Span<byte> bytes)
    {
        int elements = Type.BlockElements(), size = Type.BlockBytes();
        bool fits = true;
        for (int at = 0, to = 0; at < values.Length; at += elements, to += size)
        {
            fits &= EncodeBlock(values.Slice(at, elements), bytes.Slice(to, size));
        }

        return fits;
    }

    /// <summary>The quantized weight of a matrix, or null if no canonical form holds the type (F32 and the like).</summary>
    /// <param name="rows">Output features.</param>
    /// <param name="columns">Input features.</param>
    /// <param name="row">The bytes of a row.</param>
    public virtual QuantizedWeight? Weight(nint rows, nint columns, GgufRow row) => null;

    protected static float Half(ReadOnlySpan<byte> bytes) => (float)BinaryPrimitives.ReadHalfLittleEndian(bytes);

    /// <summary>Writes a scale; false if it does not fit.</summary>
    protected static bool PutHalf(float value, Span<byte> bytes)
    {
        Half half = (Half)value;
        BinaryPrimitives.WriteHalfLittleEndian(bytes, half);
        return System.Half.IsFinite(half);
    }

    protected abstract void DecodeBlock(ReadOnlySpan<byte> block, Span<float> values);

    protected virtual bool EncodeBlock(ReadOnlySpan<float> values, Span<byte> block) => throw new NotSupportedException($"{Type} is not written");
}

/// <summary>The bytes of row <paramref name="row"/>.</summary>
internal delegate ReadOnlySpan<byte> GgufRow(nint row);

/// <summary>Element types whose blocks are groups of codes with a scale and an offset: w = (q − offset)·scale or q·scale + offset.</summary>
internal abstract class AffineCodec(GgufType type, int bits, int group, AffineForm form, DType scaleDType) : GgufCodec(type)
{
    /// <summary>Elements that share a scale.</summary>
    protected int Group { get; } = group;

    /// <summary>All offsets are this; with <see cref="AffineForm.ZeroPoint"/> only.</summary>
    protected abstract int Zero { get; }

    /// <inheritdoc/>
    public override unsafe QuantizedWeight Weight(nint rows, nint columns, GgufRow row)
    {
        int elements = Type.BlockElements(), size = Type.BlockBytes(), groups = elements / Group;
        Tensor codes = Tensor.OnHost(new Shape(rows, columns), DType.U8);
        float[] scales = new float[rows * columns / Group], offsets = new float[scales.Length];
        int place = 0;
        for (nint r = 0; r < rows; r++)
        {
            ReadOnlySpan<byte> bytes = row(r);
            Span<byte> target = new(codes.HostPointer + (r * columns), (int)columns);
            for (int at = 0; at < columns; at += elements, place += groups)
            {
                Split(bytes.Slice(at / elements * size, size), target.Slice(at, elements), scales.AsSpan(place, groups), offsets.AsSpan(place, groups));
            }
        }

        return new AffineWeight(codes, bits, Group, scales, offsets, scaleDType, form, symmetric: form == AffineForm.ZeroPoint && Zero == 1 << (bits - 1));
    }

    /// <summary>Takes a block apart.</summary>
    protected abstract void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales, Span<float> offsets);

    /// <inheritdoc/>
    protected override void DecodeBlock(ReadOnlySpan<byte> block, Span<float> values)
    {
        Span<byte> codes = stackalloc byte[values.Length];
        Span<float> scales = stackalloc float[values.Length / Group], offsets = stackalloc float[values.Length / Group];
        Split(block, codes, scales, offsets);
        for (int i = 0; i < values.Length; i++)
        {
            float scale = scales[i / Group], offset = offsets[i / Group];
            values[i] = form == AffineForm.ZeroPoint ? (codes[i] - offset) * scale : (codes[i] * scale) + offset;
        }
    }

    /// <summary>Two 4-bit codes in a byte: the low ones are the first half of the block.</summary>
    protected static void Nibbles(ReadOnlySpan<byte> bytes, Span<byte> codes)
    {
        for (int j = 0; j < bytes.Length; j++)
        {
            codes[j] = (byte)(bytes[j] & 15);
            codes[j + bytes.Length] = (byte)(bytes[j] >> 4);
        }
    }
}

/// <summary>Element types whose codes are places in a table of levels, with a scale per block of elements.</summary>
internal abstract class LevelCodec(GgufType type, float[] levels, int group) : GgufCodec(type)
{
    /// <inheritdoc/>
    public override unsafe QuantizedWeight Weight(nint rows, nint columns, GgufRow row)
    {
        int elements = Type.BlockElements(), size = Type.BlockBytes(), groups = elements / group;
        Tensor codes = Tensor.OnHost(new Shape(rows, columns), DType.U8);
        float[] scales = new float[rows * columns / group];
        int place = 0;
        for (nint r = 0; r < rows; r++)
        {
            ReadOnlySpan<byte> bytes = row(r);
            Span<byte> target = new(codes.HostPointer + (r * columns), (int)columns);
            for (int at = 0; at < columns; at += elements, place += groups)
            {
                Split(bytes.Slice(at / elements * size, size), target.Slice(at, elements), scales.AsSpan(place, groups));
            }
        }

        return new CodebookWeight(codes, levels, group, scales);
    }

    /// <summary>Takes a block apart.</summary>
    protected abstract void Split(ReadOnlySpan<byte> block, Span<byte> codes, Span<float> scales);

    /// <inheritdoc/>
    protected override void DecodeBlock(ReadOnlySpan<byte> block, Span<float> values)
    {
        Span<byte> codes = stackalloc byte[values.Length];
        Span<float> scales = stackalloc float[values.Length / group];
        Split(block, codes, scales);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = levels[codes[i]] * scales[i / group];
        }
    }

    /// <summary>Two codes in a byte: the low ones are the first half.</summary>
    protected static void Nibbles(ReadOnlySpan<byte> bytes, Span<byte> codes)
    {
        for (int j = 0; j < bytes.Length; j++)
        {
            codes[j] = (byte)(bytes[j] & 15);
            codes[j + bytes.Length] = (byte)(bytes[j] >> 4);
        }
    }
}
