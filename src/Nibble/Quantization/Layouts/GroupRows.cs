using Nibble.Tensors;

namespace Nibble.Quantization.Layouts;

/// <summary>Scales and zero points stored as <c>[groups, out]</c> (GPTQ, AWQ), where Nibble has one group of a row after another.</summary>
internal static class GroupRows
{
    /// <summary>The scales as <c>[groups, out]</c>.</summary>
    public static Tensor Scales(AffineWeight weight)
    {
        int groups = (int)weight.GroupsPerRow, rows = (int)weight.Out;
        float[] turned = new float[weight.Scales.Length];
        for (int row = 0; row < rows; row++)
        {
            for (int group = 0; group < groups; group++)
            {
                turned[(group * rows) + row] = weight.Scales[(row * groups) + group];
            }
        }

        return LayoutTensors.Floats(turned, weight.ScaleDType, groups, rows);
    }

    /// <summary>Refuses a <c>quantization_config</c> whose bits or group size are not those of the tensors.</summary>
    public static void RequireSection(LayoutReader reader, WeightFacts facts)
    {
        const string bits = "bits|w_bit", groupSize = "group_size|q_group_size";
        if (reader.Section.GetInt(bits, facts.Bits) != facts.Bits)
        {
            reader.Section.Refuse(bits, $"the tensors of {reader.Module} have {facts.Bits} bits", "download the model again, or correct its config.json");
        }

        int size = reader.Section.GetInt(groupSize, facts.GroupSize, min: -1);
        nint groups = size < 1 ? 1 : (facts.In + size - 1) / size;
        if (groups != facts.GroupsPerRow)
        {
            reader.Section.Refuse(groupSize, $"the tensors of {reader.Module} have {facts.GroupsPerRow} groups for {facts.In} columns, this size would give {groups}", "download the model again, or correct its config.json");
        }
    }

    /// <summary>The scales in Nibble's order.</summary>
    public static float[] ReadScales(LayoutReader reader, string suffix, WeightFacts facts)
    {
        int groups = (int)facts.GroupsPerRow, rows = (int)facts.Out;
        float[] stored = reader.Floats(suffix, (nint)groups * rows), scales = new float[stored.Length];
        for (int row = 0; row < rows; row++)
        {
            for (int group = 0; group < groups; group++)
            {
                scales[(row * groups) + group] = stored[(group * rows) + row];
            }
        }

        return scales;
    }

    /// <summary>Whole zero points as U8 <c>[groups, out]</c>.</summary>
    public static Tensor Zeros(AffineWeight weight)
    {
        int groups = (int)weight.GroupsPerRow, rows = (int)weight.Out;
        Tensor zeros = Tensor.OnHost(new Shape(groups, rows), DType.U8);
        Span<byte> target = zeros.HostSpan<byte>();
        for (int row = 0; row < rows; row++)
        {
            for (int group = 0; group < groups; group++)
            {
                target[(group * rows) + row] = (byte)weight.Offsets[(row * groups) + group];
            }
        }

        return zeros;
    }

    /// <summary>U8 <c>[groups, out]</c> in Nibble's order, each through <paramref name="read"/>.</summary>
    public static float[] Turn(Tensor zeros, WeightFacts facts, Func<int, int> read)
    {
        int groups = (int)facts.GroupsPerRow, rows = (int)facts.Out;
        ReadOnlySpan<byte> stored = zeros.HostSpan<byte>();
        float[] offsets = new float[stored.Length];
        for (int row = 0; row < rows; row++)
        {
            for (int group = 0; group < groups; group++)
            {
                offsets[(row * groups) + group] = read(stored[(group * rows) + row]);
            }
        }

        return offsets;
    }

    /// <summary>The group size that the config tells, if the number of stored groups agrees; else the one that this number means.</summary>
    public static int SizeOf(LayoutReader reader, string scale, nint inFeatures)
    {
        long groups = Math.Max(1, reader.Rows(scale));
        int told = reader.Section.GetInt("group_size|q_group_size", -1, min: -1);
        nint size = told <= 0 ? inFeatures : nint.Min(told, inFeatures);
        return (int)nint.Max(1, (inFeatures + size - 1) / nint.Max(1, size) == groups ? size : (inFeatures + (nint)groups - 1) / (nint)groups);
    }
}
