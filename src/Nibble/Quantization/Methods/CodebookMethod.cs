using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;
using Nibble.Tensors;

namespace Nibble.Quantization.Methods;

/// <summary>
/// NF4 and FP4 as bitsandbytes does them: blocks of the flattened matrix, absmax a block, the nearest level of v / absmax, ties to
/// the lower one. Or, compensated, the codes that change the layer's outputs on a text least: GPTQ on the same blocks and scales. With double quantization the blocks' absmax values are stored in 8 bits (QLoRA, arXiv 2305.14314, section 3).
/// </summary>
/// <remarks>Codes equal those of bitsandbytes' CPU path for F32 input, its treatment of the last, incomplete block included.</remarks>
internal sealed class CodebookMethod : QuantizationMethod
{
    private static readonly int[] BlockSizes = [32, 64, 128, 256, 512, 1024, 2048, 4096];

    private readonly float[] _levels;
    private readonly float[] _bounds;
    private readonly byte[] _codeOfRank;

    public CodebookMethod(string name, string summary, float[] levels)
    {
        Name = name;
        Summary = summary;
        _levels = levels;
        // Ranks are places in the sorted table; FP4 has two zeros, and a stable sort keeps code 0 before code 8 as torch does.
        _codeOfRank = [.. Enumerable.Range(0, levels.Length).OrderBy(code => levels[code]).Select(code => (byte)code)];
        _bounds = [.. Enumerable.Range(1, levels.Length - 1).Select(rank => (levels[_codeOfRank[rank - 1]] + levels[_codeOfRank[rank]]) / 2)];
        Defaults = new() { Method = name, Bits = 4, BlockSize = 64, DoubleQuant = false, Compensate = false };
    }

    public override string Name { get; }

    public override string Summary { get; }

    /// <summary>The levels by code.</summary>
    public float[] Levels => _levels;

    /// <summary>The middles between sorted levels, and the code of each place among them.</summary>
    public (float[] Bounds, byte[] CodeOfRank) Ranks => (_bounds, _codeOfRank);

    public override IReadOnlyList<int> SupportedBits { get; } = [4];

    protected override QuantizationSettings Defaults { get; }

    public static CodebookMethod Nf4() => new("nf4", "16 levels of a normal distribution, absmax for each block (QLoRA)", Codebooks.Nf4);

    public static CodebookMethod Fp4() => new("fp4", "4-bit floating point levels, absmax for each block (bitsandbytes)", Codebooks.Fp4);

    protected override void Validate(QuantizationSettings settings)
    {
        if (!BlockSizes.Contains(settings.BlockSize!.Value))
        {
            Refuse("--block-size", settings.BlockSize, $"possible are {string.Join(", ", BlockSizes)}");
        }
    }

    public override string PreferredLayout => "bitsandbytes-4bit";

    public override WeightFacts FactsOf(QuantizationSettings settings, nint outFeatures, nint inFeatures) =>
        new(WeightKind.Codebook, outFeatures, inFeatures, 4, DType.F32)
        {
            GroupSize = settings.BlockSize!.Value,
            Nested = settings.DoubleQuant == true,
            Codebook = Name,
        };

    protected override QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings, CalibrationStatistics? statistics)
    {
        int blockSize = settings.BlockSize!.Value;
        nint count = weight.Shape.Count, blocks = (count + blockSize - 1) / blockSize;
        float[] absmax = new float[blocks];
        Tensor codes = Tensor.OnHost(weight.Shape, DType.U8);
        Spread.Over(blocks, blockSize, (first, last) =>
        {
            for (nint block = first; block < last; block++)
            {
                nint start = block * blockSize;
                int length = (int)nint.Min(blockSize, count - start);
                absmax[block] = QuantizeBlock(Run<float>(weight, start, length), length == blockSize, Run<byte>(codes, start, length));
            }
        });
        NestedScales? nested = settings.DoubleQuant == true ? DoubleQuantization.Of(absmax) : null;
        CodebookWeight nearest = new(codes, _levels, blockSize, nested?.Dequantize() ?? absmax, nested);
        return settings.Compensate == true ? Compensated(nearest, weight, RequireGram(statistics, weight.Shape[1])) : nearest;
    }

    private static QuantizedWeight Compensated(CodebookWeight nearest, Tensor weight, GramStatistics gram)
    {
        using (nearest)
        {
            return GridRounder.Round(StoredGrid.Of(nearest), weight, gram);
        }
    }

    private static unsafe Span<T> Run<T>(Tensor tensor, nint start, int length)
        where T : unmanaged => new((T*)tensor.HostPointer + start, length);

    private float QuantizeBlock(ReadOnlySpan<float> values, bool whole, Span<byte> codes)
    {
        const float smallest = 1e-38f;
        float absmax = VectorSearch.AbsMax(values);
        float divisor = MathF.Max(absmax, smallest);
        if (whole)
        {
            VectorSearch.Rank(values, 1 / divisor, _bounds, codes);
        }
        else
        {
            // The reference multiplies whole blocks by the reciprocal, but divides the rest: the results differ in rare roundings.
            for (int i = 0; i < values.Length; i++)
            {
                codes[i] = (byte)VectorSearch.RankOf(values[i] / divisor, _bounds);
            }

            absmax = divisor;
        }

        foreach (ref byte code in codes)
        {
            code = _codeOfRank[code];
        }

        return absmax;
    }
}
