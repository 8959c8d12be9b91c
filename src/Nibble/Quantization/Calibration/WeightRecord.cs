using System.Runtime.InteropServices;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Quantization.Calibration;

/// <summary>What is remembered of a layer that was calibrated: the weight and what the report says about it.</summary>
/// <param name="Weight">The weight.</param>
/// <param name="Coverage">The report's entry.</param>
/// <param name="Repair">What stands beside the weight, or null.</param>
internal sealed record WeightRecord(AffineWeight Weight, LayerCoverage Coverage, LowRankPair? Repair = null)
{
    public void Write(BinaryWriter writer)
    {
        writer.Write(Coverage.Path);
        writer.Write(Coverage.Tokens);
        writer.Write(Coverage.DeadInputs);
        writer.Write(Coverage.RaisedDamping ?? 0);
        foreach (int number in new[] { (int)Weight.Out, (int)Weight.In, Weight.Bits, Weight.GroupSize, (int)Weight.ScaleDType, (int)Weight.Form, (int)Weight.Order, Weight.Symmetric ? 1 : 0 })
        {
            writer.Write(number);
        }

        Write(writer, Weight.Scales);
        Write(writer, Weight.Offsets);
        Write(writer, Weight.ColumnGroups ?? []);
        writer.Write(Weight.Codes.HostSpan<byte>());
        Write(writer, Repair is null ? [] : Repair.A.HostSpan<ushort>().ToArray());
        Write(writer, Repair is null ? [] : Repair.B.HostSpan<ushort>().ToArray());
    }

    public static WeightRecord Read(BinaryReader reader)
    {
        string path = reader.ReadString();
        (long tokens, int dead, double damping) = (reader.ReadInt64(), reader.ReadInt32(), reader.ReadDouble());
        int[] facts = [.. Enumerable.Range(0, 8).Select(_ => reader.ReadInt32())];
        float[] scales = Read<float>(reader), offsets = Read<float>(reader);
        int[] groups = Read<int>(reader);
        Tensor codes = Tensor.OnHost(new Shape(facts[0], facts[1]), DType.U8);
        reader.BaseStream.ReadExactly(codes.HostSpan<byte>());
        AffineWeight weight = new(
            codes, facts[2], facts[3], scales, offsets, (DType)facts[4], (AffineForm)facts[5], (GroupOrder)facts[6], groups.Length == 0 ? null : groups, facts[7] == 1);
        ushort[] a = Read<ushort>(reader), b = Read<ushort>(reader);
        return new(weight, new LayerCoverage(path, tokens, dead) { RaisedDamping = damping == 0 ? null : damping }, Pair(a, b, facts[0], facts[1]));
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
