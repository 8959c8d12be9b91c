using Nibble.Backends.Cpu.PackCache;
using Nibble.IO;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// LLM.int8: an 8-bit weight with one scale a row, whose product splits x into outlier columns (F32) and the rest (int8). Which
/// columns are outliers depends on all rows of the call.
/// </summary>
internal sealed unsafe class LlmInt8Packing : AffinePacking
{
    private readonly float _threshold;
    private long _columns;
    private long _outliers;

    /// <summary>Packs; an activation of magnitude ≥ threshold is an outlier, none is if it is 0.</summary>
    public LlmInt8Packing(AffineWeight weight, float threshold, CpuVariant variant, CpuThreads threads)
        : base(weight, ActivationType.Int8, variant, threads)
    {
        _threshold = threshold;
        if (Activations != ActivationType.Int8 || Layout.Count > 1 || !(threshold >= 0))
        {
            Throw.Argument(
                "prepare int8", $"LLM.int8 needs 8 bits, one group a row (group size {weight.GroupSize} of {weight.In}) and a threshold ≥ 0, not {threshold}");
        }
    }

    public LlmInt8Packing(PackReader reader, CpuVariant variant)
        : base(reader, variant) => _threshold = reader.Float();

    public override string Name => "llm-int8";

    public override double? OutlierShare => _columns == 0 ? 0 : (double)_outliers / _columns;

    public override void Save(PackWriter writer)
    {
        base.Save(writer);
        writer.Float(_threshold);
    }

    public override void MatMul(in CpuMatMul call)
    {
        Interlocked.Add(ref _columns, In);
        if (_threshold == 0)
        {
            Int8Product.Multiply(this, call, default);
            return;
        }

        using CpuScratch.Lease columns = CpuScratch.Rent(In * sizeof(int));
        int count = OutlierColumns.Find(call.Input, call.Rows, In, _threshold, (int*)columns.Pointer);
        Interlocked.Add(ref _outliers, count);
        using CpuScratch.Lease values = CpuScratch.Rent(call.Rows * count * sizeof(float));
        Int8Product.Multiply(
            this, call, new OutlierColumns { Threshold = _threshold, Columns = (int*)columns.Pointer, Count = count, X = (float*)values.Pointer });
    }
}
