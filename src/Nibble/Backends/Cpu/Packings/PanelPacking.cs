using Nibble.Backends.Cpu.Kernels;
using Nibble.IO;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// A quantized weight as panels of codes with their scales. With F32 activations every product multiplies the very values of
/// <see cref="QuantizedWeight.DequantizeRow"/>, in the order of the dense product: results are bit-equal to those of the
/// dequantized F32 matrix, for any number of rows of x.
/// </summary>
internal abstract unsafe class PanelPacking : CpuPacking
{
    private readonly CodePanels _codes;
    private readonly GroupLayout _layout;
    private readonly PanelForm _form;
    private readonly GroupValues _scales;
    private readonly GroupValues _offsets;
    private readonly Tensors.NativeStorage _levels;

    protected PanelPacking(CodePanels codes, GroupLayout layout, PanelForm form, GroupValues scales, GroupValues offsets, float[] levels, CpuVariant variant)
        : base(codes.Rows, codes.Columns, variant)
    {
        (_codes, _layout, _form, _scales, _offsets) = (codes, layout, form, scales, offsets);
        _levels = new Tensors.NativeStorage(16 * sizeof(float));
        levels.CopyTo(new Span<float>(_levels.Pointer, 16));
    }

    public override nint ByteLength => _codes.ByteLength + _scales.ByteLength + _offsets.ByteLength
        + (_form == PanelForm.Level ? _levels.ByteLength : 0) + (sizeof(int) * (_layout.Map?.Length ?? 0));

    protected CodePanels Codes => _codes;

    protected GroupLayout Layout => _layout;

    protected GroupValues Scales => _scales;

    protected GroupValues Offsets => _offsets;

    private float* Levels => (float*)_levels.Pointer;

    public override void DecodeRow(nint row, nint start, nint count, float* destination)
    {
        using CpuScratch.Lease scratch = CpuScratch.Rent(count);
        byte* codes = (byte*)scratch.Pointer;
        _codes.ReadRow(row, start, count, codes);
        nint group = -1;
        float scale = 0, offset = 0;
        for (nint k = 0; k < count; k++)
        {
            nint next = GroupOf(start + k);
            if (next != group)
            {
                group = next;
                (scale, offset) = (_scales.At(row, group), _offsets.At(row, group));
            }

            destination[k] = _form switch
            {
                PanelForm.ZeroPoint => (codes[k] - offset) * scale,
                PanelForm.Bias => (codes[k] * scale) + offset,
                _ => Levels[codes[k]] * scale,
            };
        }
    }

    public override void DecodePanel(nint first, int rows, nint start, nint count, float* destination) =>
        Decode(first / Variant.PanelWidth, start, count, destination);

    public override void MatMul(in CpuMatMul call)
    {
        if (call.Rows != 1)
        {
            Variant.Gemm(this, call);
            return;
        }

        RowJob job = new() { Packing = this, Call = call };
        call.Threads.Run(job.Parts, job);
    }

    public override void Dispose()
    {
        _codes.Dispose();
        _scales.Dispose();
        _offsets.Dispose();
        _levels.Dispose();
    }

    private nint GroupOf(nint column) => _layout.Map is null ? column / _layout.Size : _layout.Map[column];

    /// <summary>Decodes columns of a panel; <paramref name="start"/> is a multiple of <see cref="CodePanels.Alignment"/>.</summary>
    private void Decode(nint panel, nint start, nint count, float* destination)
    {
        (nint first, nint last) = _layout.Map is null
            ? (start / _layout.Size, (start + count - 1) / _layout.Size)
            : (0, _layout.Count - 1);
        nint bytes = (last - first + 1) * Variant.PanelWidth * sizeof(float);
        using CpuScratch.Lease buffer = CpuScratch.Rent(2 * bytes);
        PanelSpan span = new()
        {
            Words = _codes.Panel(panel, start),
            Bits = _codes.Bits,
            Form = _form,
            Columns = count,
            Scales = _scales.Read(panel, first, last - first + 1, (float*)buffer.Pointer),
            Offsets = _offsets.Read(panel, first, last - first + 1, (float*)((byte*)buffer.Pointer + bytes)),
            ScaleStride = _scales.Stride,
            OffsetStride = _offsets.Stride,
            FirstGroup = ((first + 1) * _layout.Size) - start,
            GroupSize = _layout.Size,
            Levels = Levels,
        };
        if (_layout.IsAligned)
        {
            Variant.Panels.Decode(span, destination);
        }
        else
        {
            DecodeColumns(span, start, first, destination);
        }
    }

    /// <summary>Groups that words do not respect, or in any order: the codes of the whole tile first, then the scale of each column.</summary>
    private void DecodeColumns(PanelSpan span, nint start, nint firstGroup, float* destination)
    {
        using CpuScratch.Lease buffer = CpuScratch.Rent(span.Columns * sizeof(int));
        int* groups = (int*)buffer.Pointer;
        for (nint k = 0; k < span.Columns; k++)
        {
            groups[k] = (int)(GroupOf(start + k) - firstGroup);
        }

        span.Form = _form == PanelForm.Level ? PanelForm.RawLevel : PanelForm.Raw;
        span.GroupSize = span.FirstGroup = span.Columns;
        Variant.Panels.Decode(span, destination);
        span.Form = _form;
        Variant.Panels.Scale(span, groups, destination);
    }

    /// <summary>One row of x: two panels at a time, decoded in pieces that stay in the first-level cache.</summary>
    private struct RowJob : ICpuJob
    {
        private const int Depth = Gemm<Lanes1, float>.DepthBlock;
        private const int Piece = 128;
        private const nint WeightsPerPart = 32 << 10;
        public PanelPacking Packing;
        public CpuMatMul Call;

        public readonly int Parts => Kernels.Parts.Count(Call.Count, RowsPerPart);

        private readonly int Lanes => Packing.Variant.PanelWidth;

        private readonly nint RowsPerPart => 2 * Lanes * nint.Max(1, WeightsPerPart / (2 * Lanes * nint.Max(1, Packing.In)));

        public readonly void Execute(int part)
        {
            nint feature = part * RowsPerPart;
            nint end = nint.Min(Call.Count, feature + RowsPerPart);
            using CpuScratch.Lease buffer = CpuScratch.Rent(2 * Piece * Lanes * sizeof(float));
            for (; feature < end; feature += 2 * Lanes)
            {
                Multiply(feature, (int)nint.Min(2 * Lanes, Call.Count - feature), (float*)buffer.Pointer);
            }
        }

        private readonly void Multiply(nint feature, int count, float* values)
        {
            float* block = stackalloc float[2 * Lanes];
            Span<float> sums = new(block, 2 * Lanes), y = new(Call.Output + feature, count);
            for (nint k = 0; k < nint.Max(1, Packing.In); k += Depth)
            {
                sums.Clear();
                nint end = nint.Min(Packing.In, k + Depth);
                for (nint piece = k; piece < end; piece += Piece)
                {
                    Add(feature, count, piece, nint.Min(Piece, end - piece), values, block);
                }

                // As the tiles of the dense product do: each block of k from zero, then what is there before is added.
                for (int i = 0; i < y.Length; i++)
                {
                    y[i] = k > 0 ? sums[i] + y[i] : Call.FirstBias == null ? sums[i] : sums[i] + Call.FirstBias[feature + i];
                }
            }
        }

        private readonly void Add(nint feature, int count, nint k, nint columns, float* values, float* sums)
        {
            nint panel = (Call.First + feature) / Lanes;
            float* second = values + (Piece * Lanes);
            Packing.Decode(panel, k, columns, values);
            if (count > Lanes)
            {
                Packing.Decode(panel + 1, k, columns, second);
            }

            Packing.Variant.Panels.AddRow(Call.Input + k, columns, values, count > Lanes ? second : values, sums);
        }
    }
}
