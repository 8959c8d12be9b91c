using Nibble.Backends.Cpu.PackCache;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>What a <see cref="PanelPacking"/> consists of, to and from a cache.</summary>
internal readonly record struct PanelParts(
    CodePanels Codes, GroupLayout Layout, PanelForm Form, GroupValues Scales, GroupValues Offsets, float[] Levels, Int8Plan? Int8)
{
    public static PanelParts Open(PackReader reader, int lanes)
    {
        CodePanels codes = new(reader, lanes);
        GroupLayout layout = GroupLayout.Open(reader, codes.Rows, codes.Columns);
        PanelForm form = (PanelForm)reader.Int();
        float[] levels = reader.Floats();
        GroupValues scales = GroupValues.Open(reader, layout, codes.Rows, lanes), offsets = GroupValues.Open(reader, layout, codes.Rows, lanes);
        Int8Plan? plan = !reader.Flag() ? null
            : levels.Length > 0 ? Int8Plan.Codebook(levels, layout, lanes)
            : new Int8Plan((ByteFormat)reader.Int(), (ByteOffsets)reader.Int());
        return levels.Length <= 16 ? new(codes, layout, form, scales, offsets, levels, plan) : throw new InvalidDataException("a codebook has at most 16 levels");
    }

    public void Save(PackWriter writer)
    {
        Codes.Save(writer);
        Layout.Save(writer);
        writer.Number((int)Form);
        writer.Floats(Levels);
        Scales.Save(writer);
        Offsets.Save(writer);
        writer.Flag(Int8 is not null);
        if (Int8 is not null && Levels.Length == 0)
        {
            writer.Number((int)Int8.Format);
            writer.Number((int)Int8.Offsets);
        }
    }
}
