using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>How a packing multiplies int8 activations; there is none where groups do not fit words of codes or sums could overflow.</summary>
/// <param name="Format">What the codes are multiplied as.</param>
/// <param name="Offsets">How offsets enter.</param>
internal sealed unsafe record Int8Plan(ByteFormat Format, ByteOffsets Offsets) : IDisposable
{
    /// <summary>Columns of a group whose sum of 8-bit codes (255·127 each) surely fits in 31 bits.</summary>
    public const int MostColumns = 65536;

    // The same for levels of 14 bits (16383·127).
    private const int MostLevelColumns = 1024;

    // A level is ±8191 steps around this code: 0 stays 0, and the error is at most 1/16382 of the largest level.
    private const int LevelZero = 8192;

    private NativeStorage? _levels;

    /// <summary>Multiplied into every result.</summary>
    public float Factor { get; private init; } = 1;

    /// <summary>What takes the place of the packing's own offsets, or null.</summary>
    public GroupValues? Zeros { get; private init; }

    /// <summary>High 7 bits of the 16 levels, then low 7 bits; null without a codebook.</summary>
    public byte* Levels => _levels is null ? null : _levels.Pointer;

    /// <summary>The plan for an affine weight.</summary>
    public static Int8Plan? Affine(AffineWeight weight, int bits, GroupLayout layout)
    {
        if (!layout.IsAligned || layout.Size > MostColumns)
        {
            return null;
        }

        bool whole = Array.TrueForAll(weight.Offsets, z => z == MathF.Floor(z) && MathF.Abs(z) <= 256);
        ByteOffsets offsets = weight.Form == AffineForm.Bias ? ByteOffsets.Bias : whole ? ByteOffsets.Whole : ByteOffsets.Real;
        return new Int8Plan(bits switch { 2 => ByteFormat.Bits2, 3 => ByteFormat.Bits3, 4 => ByteFormat.Bits4, _ => ByteFormat.Bits8 }, offsets);
    }

    /// <summary>
    /// The plan for a codebook: levels as whole numbers of 14 bits in two planes of 7. (One plane of 8 bits would be another
    /// codebook: NF4's levels would be off by up to 0.4 %.)
    /// </summary>
    public static Int8Plan? Codebook(float[] levels, GroupLayout layout, int lanes)
    {
        float largest = levels.Max(MathF.Abs);
        if (!layout.IsAligned || layout.Size > MostLevelColumns || !(largest > 0 && largest < float.PositiveInfinity))
        {
            return null;
        }

        NativeStorage planes = new(32);
        for (int i = 0; i < levels.Length; i++)
        {
            int code = LevelZero + (int)MathF.Round(levels[i] / largest * (LevelZero - 1));
            (planes.Pointer[i], planes.Pointer[16 + i]) = ((byte)(code >> 7), (byte)(code & 127));
        }

        return new Int8Plan(ByteFormat.Levels, ByteOffsets.Whole)
        {
            _levels = planes,
            Factor = largest / (LevelZero - 1),
            Zeros = GroupValues.Same(LevelZero, lanes),
        };
    }

    public void Dispose()
    {
        _levels?.Dispose();
        Zeros?.Dispose();
    }
}
