using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// A quantized weight as panels of codes with their scales. With F32 activations every product multiplies the very values of
/// <see cref="QuantizedWeight.DequantizeRow"/>, in the order of the dense product: results are bit-equal to those of the
/// dequantized F32 matrix, for any number of rows of x.
/// </summary>
internal abstract unsafe class PanelPacking : CpuPacking
{
    private const int MostExactColumns = 256;

    private readonly CodePanels _codes;
    private readonly GroupLayout _layout;
    private readonly PanelForm _form;
    private readonly GroupValues _scales;
    private readonly GroupValues _offsets;
    private readonly Tensors.NativeStorage _levels;
    private readonly int _levelCount;
    private readonly Int8Plan? _int8;
    private readonly nint _groupChunks;
    private readonly nint _lastChunks;

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    protected PanelPacking(PackReader reader, CpuVariant variant)
        : this(PanelParts.Open(reader, variant.PanelWidth), variant)
    {
    }

    private PanelPacking(PanelParts parts, CpuVariant variant)
        : this(parts.Codes, parts.Layout, parts.Form, parts.Scales, parts.Offsets, parts.Levels, parts.Int8, variant)
    {
    }

    /// <summary>Keeps the parts: levels is empty without a codebook, int8 null for F32 activations.</summary>
    protected PanelPacking(
        CodePanels codes, GroupLayout layout, PanelForm form, GroupValues scales, GroupValues offsets, float[] levels, Int8Plan? int8, CpuVariant variant)
        : base(codes.Rows, codes.Columns, variant)
    {
        (_codes, _layout, _form, _scales, _offsets, _int8) = (codes, layout, form, scales, offsets, int8);
        _groupChunks = layout.Size / codes.ChunkColumns;
        _lastChunks = codes.Chunks - ((layout.Count - 1) * _groupChunks);
        _levelCount = levels.Length;
        _levels = new Tensors.NativeStorage((16 * sizeof(float)) + LevelRows.PlaneBytes);
        levels.CopyTo(new Span<float>(_levels.Pointer, 16));
        LevelRows.Split(Levels);
    }

    public override nint ByteLength => _codes.ByteLength + _scales.ByteLength + _offsets.ByteLength
        + (_form == PanelForm.Level ? _levels.ByteLength : 0) + (sizeof(int) * (_layout.Map?.Length ?? 0));

    public override ActivationType Activations => _int8 is null ? ActivationType.F32 : ActivationType.Int8;

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
        if (_int8 is not null)
        {
            Int8Product.Multiply(this, call, default);
            return;
        }

        if (call.Rows == 1 || (call.Rows <= RowProduct.MostRows && IsAligned))
        {
            RowProduct.Multiply(this, call);
        }
        else
        {
            Variant.Gemm(this, call);
        }
    }

    /// <summary>What has to be known of x for a product with int8 activations.</summary>
    public Int8Activations Activations8(in CpuMatMul call) => new()
    {
        X = call.Input,
        Rows = call.Rows,
        Columns = In,
        Stride = (In + CodePanels.Alignment - 1) / CodePanels.Alignment * CodePanels.Alignment,
        GroupSize = _layout.Size,
        Groups = _layout.Count,
        Bits = _codes.Bits,
        Factor = _int8!.Factor,
    };

    /// <summary>The part of a tile that a panel decides; scales and offsets as floats in place or in the given memory.</summary>
    public ByteTile Tile(nint panel, float* scales, float* offsets)
    {
        GroupValues zeros = _int8!.Zeros ?? _offsets;
        return new()
        {
            Words = _codes.Panel(panel),
            Step = _codes.Lanes,
            Scales = _scales.Read(panel, 0, _layout.Count, scales),
            Offsets = zeros.Read(panel, 0, _layout.Count, offsets),
            ScaleStride = _scales.Stride,
            OffsetStride = zeros.Stride,
            Groups = _layout.Count,
            GroupChunks = _groupChunks,
            LastChunks = _lastChunks,
            Levels = _int8.Levels,
        };
    }

    /// <summary>The part of a single row's product that a run of groups of a panel decides; values: memory for two floats a group and row.</summary>
    public ByteRow Row(nint panel, nint group, nint groups, float* values)
    {
        GroupValues zeros = _int8!.Zeros ?? _offsets;
        return new()
        {
            Words = _codes.Panel(panel) + (group * _groupChunks * _codes.ChunkWords * _codes.Lanes),
            Step = _codes.Lanes,
            Strips = _codes.Lanes / Variant.Bytes.StripLanes,
            Scales = _scales.Read(panel, group, groups, values),
            Offsets = zeros.Read(panel, group, groups, values + (groups * _codes.Lanes)),
            ScaleStride = _scales.Stride,
            OffsetStride = zeros.Stride,
            Groups = groups,
            GroupChunks = _groupChunks,
            LastChunks = group + groups == _layout.Count ? _lastChunks : _groupChunks,
            Levels = _int8.Levels,
        };
    }

    /// <summary>The same for machine code, which reads scales and offsets as they are kept.</summary>
    public ByteRow RawRow(nint panel, nint group, nint groups, float* values)
    {
        GroupValues zeros = _int8!.Zeros ?? _offsets;
        float* scales = _scales.Raw(panel, group, groups, values, out Tensors.DType scaleType);
        float* offsets = zeros.Raw(panel, group, groups, values + (groups * _codes.Lanes), out Tensors.DType offsetType);
        return new()
        {
            Words = _codes.Panel(panel) + (group * _groupChunks * _codes.ChunkWords * _codes.Lanes),
            Scales = scales,
            Offsets = offsets,
            ScaleType = scaleType,
            OffsetType = offsetType,
            ScaleStride = _scales.Stride,
            OffsetStride = zeros.Stride,
            Groups = groups,
            GroupChunks = _groupChunks,
            LastChunks = group + groups == _layout.Count ? _lastChunks : _groupChunks,
            Levels = _int8.Levels,
        };
    }

    /// <summary>True if <see cref="RawRow"/> needs no memory for values.</summary>
    public bool HasRawValues => _scales.IsRaw && (_int8!.Zeros ?? _offsets).IsRaw;

    /// <summary>Runs the kernel of one row.</summary>
    public void RunRow(in ByteRow row) => Variant.Bytes.RunRow(_int8!.Format, RowOffsets, row);

    /// <summary>Panels that are multiplied by one row at once where as many are left.</summary>
    public int RowPanels => Variant.BatchBytes.RowPanels(_int8!.Format);

    /// <summary>Runs the kernel of one row on <see cref="RowPanels"/> neighbouring panels.</summary>
    public void RunRows(ByteRow* rows) => Variant.BatchBytes.RunRows(_int8!.Format, RowOffsets, rows);

    /// <summary>The format of codes that have been decoded for many rows.</summary>
    public ByteFormat DecodedFormat => Variant.BatchBytes.Decoded(_int8!.Format);

    /// <summary>Words of a decoded strip.</summary>
    public nint DecodedWords => Variant.BatchBytes.DecodedWords(_int8!.Format, _codes.Chunks, _layout.Count);

    /// <summary>Decodes the strip of a tile.</summary>
    public void Decode(ref ByteTile tile, uint* target) => Variant.BatchBytes.Decode(_int8!.Format, _int8.Offsets, ref tile, target);

    /// <summary>Runs the kernel of this packing, or of its decoded codes, on some rows.</summary>
    public void RunTile(int rows, bool isDecoded, in ByteTile tile) =>
        Variant.Kernels(isDecoded).Run(isDecoded ? DecodedFormat : _int8!.Format, _int8!.Offsets, rows, tile);

    /// <summary>The values of one column in all rows of a panel.</summary>
    public void DecodeColumn(nint panel, nint column, float* destination)
    {
        int lanes = Variant.PanelWidth;
        float* buffer = stackalloc float[_codes.ChunkColumns * lanes], values = stackalloc float[2 * lanes];
        nint columns = (column % _codes.ChunkColumns) + 1, start = column + 1 - columns;
        PanelSpan span = Span(panel, start, columns, start / _layout.Size, 1, values);
        Variant.Panels.Decode(span, buffer);
        new Span<float>(buffer + ((columns - 1) * lanes), lanes).CopyTo(new Span<float>(destination, lanes));
    }

    public override void Save(PackWriter writer) =>
        new PanelParts(_codes, _layout, _form, _scales, _offsets, new Span<float>(Levels, _levelCount).ToArray(), _int8).Save(writer);

    public override void Dispose()
    {
        _int8?.Dispose();
        _codes.Dispose();
        _scales.Dispose();
        _offsets.Dispose();
        _levels.Dispose();
    }

    // Sums of at most 256 codes of 8 bits, and offsets up to 256 times a sum of x, are whole floats: so nothing is rounded in floats
    // either, which takes fewer instructions.
    private ByteOffsets RowOffsets => _int8!.Offsets == ByteOffsets.Whole && _form == PanelForm.ZeroPoint && _layout.Size <= MostExactColumns
        ? ByteOffsets.Real
        : _int8.Offsets;

    private nint GroupOf(nint column) => _layout.Map is null ? column / _layout.Size : _layout.Map[column];

    /// <summary>True if a panel can be multiplied as it stands (<see cref="Span"/>), false if it must be decoded first.</summary>
    public bool IsAligned => _layout.IsAligned;

    /// <summary>Groups of a row.</summary>
    public nint Groups => _layout.Count;

    /// <summary>Decodes columns of a panel; <paramref name="start"/> is a multiple of <see cref="CodePanels.Alignment"/>.</summary>
    public void Decode(nint panel, nint start, nint count, float* destination)
    {
        (nint first, nint last) = _layout.Map is null
            ? (start / _layout.Size, (start + count - 1) / _layout.Size)
            : (0, _layout.Count - 1);
        nint groups = last - first + 1;
        using CpuScratch.Lease buffer = CpuScratch.Rent(2 * groups * Variant.PanelWidth * sizeof(float));
        PanelSpan span = Span(panel, start, count, first, groups, (float*)buffer.Pointer);
        if (_layout.IsAligned)
        {
            Variant.Panels.Decode(span, destination);
        }
        else
        {
            DecodeColumns(span, start, first, destination);
        }
    }

    /// <summary>Columns of a panel with some groups from <paramref name="first"/> on, whose values may go to <paramref name="buffer"/>.</summary>
    public PanelSpan Span(nint panel, nint start, nint count, nint first, nint groups, float* buffer) => new()
    {
        Words = start == 0 ? _codes.Panel(panel) : _codes.Panel(panel, start),
        Bits = _codes.Bits,
        Form = _form,
        Columns = count,
        Scales = _scales.Read(panel, first, groups, buffer),
        Offsets = _offsets.Read(panel, first, groups, buffer + (groups * Variant.PanelWidth)),
        ScaleStride = _scales.Stride,
        OffsetStride = _offsets.Stride,
        FirstGroup = ((first + 1) * _layout.Size) - start,
        GroupSize = _layout.Size,
        Levels = Levels,
    };

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
}
