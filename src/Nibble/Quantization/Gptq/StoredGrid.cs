using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Quantization.Gptq;

/// <summary>
/// The values that a stored quantized weight can take when only its codes change: its scales, offsets and tables stay as they are
/// in the file. Rounding to it is what "merging back into the quantized format" may do.
/// </summary>
internal abstract class StoredGrid
{
    /// <summary>The value of <paramref name="code"/> at an element.</summary>
    public abstract float Value(nint row, nint column, byte code);

    /// <summary>The code whose value is nearest.</summary>
    public abstract byte Nearest(nint row, nint column, float value);

    /// <summary>The same weight with other codes, U8 <c>[out, in]</c>, which it then owns.</summary>
    public abstract QuantizedWeight With(Tensor codes);

    /// <summary>The grid of a weight; it keeps no reference to the codes.</summary>
    public static StoredGrid Of(QuantizedWeight weight) => weight switch
    {
        AffineWeight affine => new AffineGrid(affine),
        CodebookWeight codebook => new CodebookGrid(codebook),
        TernaryWeight ternary => new TernaryGrid(ternary),
        _ => throw new ArgumentException($"no grid of a {weight.GetType().Name}"),
    };

    /// <summary>Every element of F32 <c>[out, in]</c> rounded on its own: the naive merge.</summary>
    public QuantizedWeight Round(Tensor matrix)
    {
        Tensor codes = Tensor.OnHost(matrix.Shape, DType.U8);
        for (nint row = 0; row < matrix.Shape[0]; row++)
        {
            ReadOnlySpan<float> values = matrix.Slice(row, 1).HostSpan<float>();
            Span<byte> target = codes.Slice(row, 1).HostSpan<byte>();
            for (int column = 0; column < values.Length; column++)
            {
                target[column] = Nearest(row, column, values[column]);
            }
        }

        return With(codes);
    }

    private sealed class AffineGrid(AffineWeight weight) : StoredGrid
    {
        private readonly int _most = (1 << weight.Bits) - 1;

        public override float Value(nint row, nint column, byte code)
        {
            nint group = weight.GroupOf(row, column);
            return weight.Form == AffineForm.ZeroPoint
                ? (code - weight.Offsets[group]) * weight.Scales[group]
                : (code * weight.Scales[group]) + weight.Offsets[group];
        }

        public override byte Nearest(nint row, nint column, float value)
        {
            nint group = weight.GroupOf(row, column);
            float scale = weight.Scales[group], offset = weight.Offsets[group];
            if (scale == 0)
            {
                return 0;
            }

            float code = weight.Form == AffineForm.ZeroPoint ? (value / scale) + offset : (value - offset) / scale;
            return (byte)Math.Clamp(MathF.Round(code), 0, _most);
        }

        public override QuantizedWeight With(Tensor codes) =>
            new AffineWeight(codes, weight.Bits, weight.GroupSize, weight.Scales, weight.Offsets, weight.ScaleDType, weight.Form, weight.Order, weight.ColumnGroups, weight.Symmetric)
            {
                OutlierThreshold = weight.OutlierThreshold,
            };
    }

    private sealed class CodebookGrid : StoredGrid
    {
        private readonly CodebookWeight _weight;
        private readonly byte[] _byValue;
        private readonly float[] _middles;

        public CodebookGrid(CodebookWeight weight)
        {
            _weight = weight;
            _byValue = [.. Enumerable.Range(0, weight.Levels.Length).OrderBy(code => weight.Levels[code]).Select(code => (byte)code)];
            _middles = [.. _byValue.Zip(_byValue.Skip(1), (low, high) => (weight.Levels[low] + weight.Levels[high]) / 2)];
        }

        public override float Value(nint row, nint column, byte code) => _weight.Levels[code] * AbsmaxOf(row, column);

        public override byte Nearest(nint row, nint column, float value)
        {
            float absmax = AbsmaxOf(row, column);
            float normed = absmax == 0 ? 0 : value / absmax;
            int place = 0;
            while (place < _middles.Length && normed > _middles[place])
            {
                place++;
            }

            return _byValue[place];
        }

        public override QuantizedWeight With(Tensor codes) => new CodebookWeight(codes, _weight.Levels, _weight.BlockSize, _weight.Absmax, _weight.Nested);

        private float AbsmaxOf(nint row, nint column) => _weight.Absmax[((row * _weight.In) + column) / _weight.BlockSize];
    }

    private sealed class TernaryGrid(TernaryWeight weight) : StoredGrid
    {
        public override float Value(nint row, nint column, byte code) => (code - 1) * weight.ScaleOf(row);

        public override byte Nearest(nint row, nint column, float value)
        {
            float scale = weight.ScaleOf(row);
            return scale == 0 ? (byte)1 : (byte)(Math.Clamp(MathF.Round(value / scale), -1, 1) + 1);
        }

        public override QuantizedWeight With(Tensor codes) => new TernaryWeight(codes, weight.Scales, weight.ScaleDType);
    }
}
