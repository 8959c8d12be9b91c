using System.Runtime.InteropServices;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>What is remembered of a layer that was calibrated: the weight and what the report says about it.</summary>
/// <param name="Weight">The weight.</param>
/// <param name="Coverage">The report's entry.</param>
/// <param name="Repair">What stands beside the weight, or null.</param>
internal sealed record WeightRecord(QuantizedWeight Weight, LayerCoverage Coverage, LowRankPair? Repair = null)
{
    private enum Kind
    {
        Affine,
        Codebook,
        Ternary,
    }

    public void Write(BinaryWriter writer)
    {
        writer.Write(Coverage.Path);
        writer.Write(Coverage.Tokens);
        writer.Write(Coverage.DeadInputs);
        writer.Write(Coverage.RaisedDamping ?? 0);
        Write(writer, [(int)Weight.Out, (int)Weight.In]);
        writer.Write(Weight.Codes.HostSpan<byte>());
        switch (Weight)
        {
            case AffineWeight affine:
                Write(writer, [(int)Kind.Affine, affine.Bits, affine.GroupSize, (int)affine.ScaleDType, (int)affine.Form, (int)affine.Order, affine.Symmetric ? 1 : 0]);
                Write(writer, affine.Scales);
                Write(writer, affine.Offsets);
                Write(writer, affine.ColumnGroups ?? []);
                Write(writer, affine.OutlierThreshold is { } threshold ? [threshold] : Array.Empty<float>());
                break;
            case CodebookWeight codebook:
                Write(writer, [(int)Kind.Codebook, codebook.BlockSize, codebook.Nested?.BlockSize ?? 0]);
                Write(writer, codebook.Levels);
                Write(writer, codebook.Absmax);
                Write(writer, codebook.Nested?.Codes ?? []);
                Write(writer, codebook.Nested is { } nested ? [nested.Offset, .. nested.Map, .. nested.BlockScales] : Array.Empty<float>());
                break;
            case TernaryWeight ternary:
                Write(writer, [(int)Kind.Ternary, (int)ternary.ScaleDType]);
                Write(writer, ternary.Scales);
                break;
            default:
                throw new InvalidOperationException($"a {Weight.GetType().Name} cannot be remembered");
        }

        Write(writer, Repair is null ? [] : Repair.A.HostSpan<ushort>().ToArray());
        Write(writer, Repair is null ? [] : Repair.B.HostSpan<ushort>().ToArray());
    }

    public static WeightRecord Read(BinaryReader reader)
    {
        string path = reader.ReadString();
        (long tokens, int dead, double damping) = (reader.ReadInt64(), reader.ReadInt32(), reader.ReadDouble());
        int[] shape = Read<int>(reader);
        Tensor codes = Tensor.OnHost(new Shape(shape[0], shape[1]), DType.U8);
        reader.BaseStream.ReadExactly(codes.HostSpan<byte>());
        int[] facts = Read<int>(reader);
        QuantizedWeight weight = (Kind)facts[0] switch
        {
            Kind.Affine => ReadAffine(reader, codes, facts),
            Kind.Codebook => ReadCodebook(reader, codes, facts),
            _ => new TernaryWeight(codes, Read<float>(reader), (DType)facts[1]),
        };
        ushort[] a = Read<ushort>(reader), b = Read<ushort>(reader);
        return new(weight, new LayerCoverage(path, tokens, dead) { RaisedDamping = damping == 0 ? null : damping }, Pair(a, b, shape[0], shape[1]));
    }

    private static AffineWeight ReadAffine(BinaryReader reader, Tensor codes, int[] facts)
    {
        float[] scales = Read<float>(reader), offsets = Read<float>(reader);
        int[] groups = Read<int>(reader);
        float[] threshold = Read<float>(reader);
        return new AffineWeight(
            codes, facts[1], facts[2], scales, offsets, (DType)facts[3], (AffineForm)facts[4], (GroupOrder)facts[5], groups.Length == 0 ? null : groups, facts[6] == 1)
        {
            OutlierThreshold = threshold.Length == 0 ? null : threshold[0],
        };
    }

    private static CodebookWeight ReadCodebook(BinaryReader reader, Tensor codes, int[] facts)
    {
        const int mapLength = 256;
        float[] levels = Read<float>(reader), absmax = Read<float>(reader);
        byte[] nestedCodes = Read<byte>(reader);
        float[] nested = Read<float>(reader);
        return new CodebookWeight(
            codes, levels, facts[1], absmax, facts[2] == 0 ? null : new NestedScales(nestedCodes, nested[(1 + mapLength)..], nested[1..(1 + mapLength)], nested[0], facts[2]));
    }

    private static LowRankPair? Pair(ushort[] a, ushort[] b, int rows, int columns) => a.Length == 0 ? null : new LowRankPair(
        Tensor.From<ushort>(new Shape(a.Length / columns, columns), DType.BF16, a), Tensor.From<ushort>(new Shape(rows, b.Length / rows), DType.BF16, b));

    private static void Write<T>(BinaryWriter writer, T[] values)
        where T : unmanaged
    {
        writer.Write(values.Length);
        writer.Write(MemoryMarshal.AsBytes(values.AsSpan()));
    }

    private static T[] Read<T>(BinaryReader reader)
        where T : unmanaged
    {
        T[] values = new T[reader.ReadInt32()];
        reader.BaseStream.ReadExactly(MemoryMarshal.AsBytes(values.AsSpan()));
        return values;
    }
}
