using System.Globalization;
using System.Text.Json.Nodes;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>Small steps that layouts share.</summary>
internal static class LayoutTensors
{
    /// <summary>A JSON number that Python reads as a float: transformers refuses whole numbers where it wants a float.</summary>
    public static JsonNode PythonFloat(float value) =>
        JsonNode.Parse(value.ToString(value == MathF.Floor(value) ? "F1" : "R", CultureInfo.InvariantCulture))!;

    /// <summary>A U8 vector.</summary>
    public static Tensor Bytes(ReadOnlySpan<byte> values) => Tensor.From(new Shape(values.Length), DType.U8, values);

    /// <summary>Numbers in the dtype in which they are stored; they must be rounded to it already.</summary>
    public static Tensor Floats(ReadOnlySpan<float> values, DType dtype, params ReadOnlySpan<nint> extents)
    {
        Tensor floats = Tensor.From(new Shape(extents), DType.F32, values);
        if (dtype == DType.F32)
        {
            return floats;
        }

        using (floats)
        {
            return floats.To(dtype);
        }
    }

    /// <summary>Packs each row of codes with <paramref name="pack"/>(row of codes, row of bytes).</summary>
    public static Tensor PackRows(QuantizedWeight weight, DType dtype, nint columns, RowPacker pack)
    {
        Tensor packed = Tensor.OnHost(new Shape(weight.Out, columns), dtype);
        Spread.Over(weight.Out, weight.In, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                pack(weight.CodeRow(row), Row(packed, row));
            }
        });
        return packed;
    }

    /// <summary>Unpacks each row of a stored matrix into codes <c>[out, in]</c>.</summary>
    public static Tensor UnpackRows(Tensor packed, nint outFeatures, nint inFeatures, RowUnpacker unpack)
    {
        Tensor codes = Tensor.OnHost(new Shape(outFeatures, inFeatures), DType.U8);
        Spread.Over(outFeatures, inFeatures, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                unpack(Row(packed, row), Row(codes, row));
            }
        });
        return codes;
    }

    /// <summary>Packs each row of a U8 matrix as a stream of bits in I32 words.</summary>
    public static Tensor PackMatrix(Tensor codes, int bits)
    {
        Tensor packed = Tensor.OnHost(new Shape(codes.Shape[0], BitStream.Words(codes.Shape[1], bits)), DType.I32);
        for (nint row = 0; row < codes.Shape[0]; row++)
        {
            BitStream.Pack(Row(codes, row), bits, packed.Slice(row, 1).HostSpan<uint>());
        }

        return packed;
    }

    /// <summary>Reads a matrix packed by <see cref="PackMatrix"/>.</summary>
    public static Tensor UnpackMatrix(Tensor packed, int bits, nint columns)
    {
        Tensor codes = Tensor.OnHost(new Shape(packed.Shape[0], columns), DType.U8);
        for (nint row = 0; row < codes.Shape[0]; row++)
        {
            BitStream.Unpack(packed.Slice(row, 1).HostSpan<uint>(), bits, Row(codes, row));
        }

        return codes;
    }

    /// <summary>Unsigned codes around 128 to signed bytes, or back: the same flip of the highest bit.</summary>
    public static void Recentre(ReadOnlySpan<byte> source, Span<byte> target)
    {
        for (int i = 0; i < source.Length; i++)
        {
            target[i] = (byte)(source[i] ^ 0x80);
        }
    }

    /// <summary>
    /// Packs rows of codes in strides: with R = ⌈rows·bits/8⌉ stored rows, stored row r holds rows r, r + R, r + 2R … from its low
    /// bits up (BitNet, optimum-quanto).
    /// </summary>
    public static Tensor PackStrided(Tensor codes, nint rows, int bits)
    {
        nint each = 8 / bits, columns = rows == 0 ? 0 : codes.Shape.Count / rows, storedRows = (rows + each - 1) / each;
        Tensor packed = Tensor.OnHost(new Shape(storedRows, columns), DType.U8);
        Spread.Over(storedRows, columns * each, (first, last) =>
        {
            Tensor grouped = codes.Reshape(new Shape(rows, columns));
            for (nint row = first; row < last; row++)
            {
                Span<byte> target = Row(packed, row);
                for (int slot = 0; slot < each && row + (slot * storedRows) < rows; slot++)
                {
                    ReadOnlySpan<byte> source = Row(grouped, row + (slot * storedRows));
                    for (int i = 0; i < source.Length; i++)
                    {
                        target[i] |= (byte)(source[i] << (bits * slot));
                    }
                }
            }
        });
        return packed;
    }

    /// <summary>Reads rows packed by <see cref="PackStrided"/> into codes of shape <paramref name="shape"/>.</summary>
    public static Tensor UnpackStrided(Tensor packed, nint rows, int bits, Shape shape)
    {
        nint storedRows = packed.Shape[0], columns = packed.Shape[1];
        byte mask = (byte)((1 << bits) - 1);
        Tensor codes = Tensor.OnHost(shape, DType.U8);
        Spread.Over(rows, columns, (first, last) =>
        {
            Tensor grouped = codes.Reshape(new Shape(rows, columns));
            for (nint row = first; row < last; row++)
            {
                int shift = bits * (int)(row / storedRows);
                ReadOnlySpan<byte> source = Row(packed, row % storedRows);
                Span<byte> target = Row(grouped, row);
                for (int i = 0; i < source.Length; i++)
                {
                    target[i] = (byte)((source[i] >> shift) & mask);
                }
            }
        });
        return codes;
    }

    /// <summary>The bytes of one row.</summary>
    public static unsafe Span<byte> Row(Tensor matrix, nint row)
    {
        nint bytes = matrix.Shape[0] == 0 ? 0 : matrix.ByteLength / matrix.Shape[0];
        return new Span<byte>(matrix.HostPointer + (row * bytes), checked((int)bytes));
    }
}

/// <summary>Packs one row of codes into its stored bytes.</summary>
internal delegate void RowPacker(ReadOnlySpan<byte> codes, Span<byte> stored);

/// <summary>Unpacks the stored bytes of one row.</summary>
internal delegate void RowUnpacker(ReadOnlySpan<byte> stored, Span<byte> codes);
