using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>Absmax values of double quantization: one byte a block in memory, decoded when read.</summary>
internal sealed unsafe class NestedGroupValues : GroupValues
{
    public const string Kind = "nested";

    // The map is the same in nearly every file; a kB of it beside each matrix would be more than small matrices save.
    private static readonly Lazy<HostStorage> UsualMap = new(() => Copy(DoubleQuantization.Map));

    private readonly HostStorage _codes;
    private readonly HostStorage _scales;
    private readonly HostStorage? _ownMap;
    private readonly float[] _levels;
    private readonly float* _map;
    private readonly float _offset;
    private readonly int _size;
    private readonly GroupLayout _layout;
    private readonly nint _rows;
    private readonly int _shift;

    private NestedGroupValues((float[] Map, float Offset, int BlockSize) form, GroupLayout layout, nint rows, int lanes, Func<nint, (HostStorage Scales, HostStorage Codes)> memory)
        : base(lanes)
    {
        bool isUsual = MemoryMarshal.AsBytes<float>(form.Map).SequenceEqual(MemoryMarshal.AsBytes<float>(DoubleQuantization.Map));
        (_levels, _ownMap) = isUsual ? (DoubleQuantization.Map, null) : (form.Map, Copy(form.Map));
        _map = (float*)(_ownMap ?? UsualMap.Value).Pointer;
        (_offset, _size, _layout, _rows) = (form.Offset, form.BlockSize, layout, rows);
        _shift = BitOperations.IsPow2(_size) ? BitOperations.Log2((uint)_size) : -1;
        (_scales, _codes) = memory((rows + lanes - 1) / lanes * lanes * layout.Count);
    }

    /// <summary>Keeps the codes of <paramref name="nested"/> in the order in which panels of rows are read.</summary>
    public static NestedGroupValues Of(NestedScales nested, GroupLayout layout, nint rows, int lanes)
    {
        NestedGroupValues values = new((nested.Map, nested.Offset, nested.BlockSize), layout, rows, lanes, bytes => (Copy(nested.BlockScales), new NativeStorage(bytes)));
        for (nint row = 0; row < rows; row++)
        {
            for (nint group = 0; group < layout.Count; group++)
            {
                values._codes.Pointer[values.Place(row, group)] = nested.Codes[checked((int)layout.Index(row, group))];
            }
        }

        return values;
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    public static NestedGroupValues Saved(PackReader reader, GroupLayout layout, nint rows, int lanes) =>
        new((reader.Floats(), reader.Float(), reader.Int()), layout, rows, lanes, bytes => (reader.Block(sizeof(float) * reader.Size()), reader.Block(bytes)));

    public override nint ByteLength => _codes.ByteLength + _scales.ByteLength + (_ownMap?.ByteLength ?? 0);

    private float* BlockScales => (float*)_scales.Pointer;

    public override void Save(PackWriter writer)
    {
        writer.Text(Kind);
        writer.Floats(_levels);
        writer.Float(_offset);
        writer.Number(_size);
        writer.Number(_scales.ByteLength / sizeof(float));
        writer.Block(_scales);
        writer.Block(_codes);
    }

    /// <summary>The scales as the quantized weight had them.</summary>
    public NestedScales Restore(int blocks)
    {
        byte[] codes = new byte[blocks];
        for (nint row = 0; row < _rows; row++)
        {
            for (nint group = 0; group < _layout.Count; group++)
            {
                codes[_layout.Index(row, group)] = _codes.Pointer[Place(row, group)];
            }
        }

        return new NestedScales(codes, [.. new ReadOnlySpan<float>(BlockScales, (int)(_scales.ByteLength / sizeof(float)))], _levels, _offset, _size);
    }

    [SkipLocalsInit]
    public override float* Read(nint panel, nint group, nint count, float* buffer)
    {
        int lanes = Lanes;
        int* left = stackalloc int[lanes], next = stackalloc int[lanes];
        float* scales = stackalloc float[lanes], offsets = stackalloc float[lanes];
        nint run = nint.Min(count, Begin(panel, (int)group, left, next, scales, offsets));
        byte* codes = _codes.Pointer + (((panel * _layout.Count) + group) * lanes);
        for (nint start = 0; ; run = nint.Min(count - start, Continue((int)run, left, next, scales)))
        {
            Decode(codes + (start * lanes), run, scales, offsets, buffer + (start * lanes));
            start += run;
            if (start == count)
            {
                return buffer;
            }
        }
    }

    public override void Dispose()
    {
        _codes.Dispose();
        _scales.Dispose();
        _ownMap?.Dispose();
    }

    private static NativeStorage Copy(float[] values)
    {
        NativeStorage storage = new(sizeof(float) * values.Length);
        values.CopyTo(new Span<float>(storage.Pointer, values.Length));
        return storage;
    }

    private nint Place(nint row, nint group) => (((row / Lanes * _layout.Count) + group) * Lanes) + (row % Lanes);

    /// <summary>Sets the scale of each row at a group; returns the groups until the first row comes to its next block of scales.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Begin(nint panel, int group, int* left, int* next, float* scales, float* offsets)
    {
        int size = _size, run = int.MaxValue;
        nint first = panel * Lanes;
        for (int lane = 0; lane < Lanes; lane++)
        {
            (scales[lane], offsets[lane], left[lane]) = (0, 0, int.MaxValue);
            if (first + lane < _rows)
            {
                // A division would take longer than the rest; sizes are powers of two in practice.
                int block = (int)_layout.FirstIndex(first + lane) + group, index = _shift >= 0 ? block >> _shift : block / size;
                (scales[lane], offsets[lane]) = (BlockScales[index], _offset);
                (left[lane], next[lane]) = (size - (block - (index * size)), index + 1);
                run = Math.Min(run, left[lane]);
            }
        }

        return run;
    }

    private int Continue(int groups, int* left, int* next, float* scales)
    {
        int run = int.MaxValue;
        for (int lane = 0; lane < Lanes; lane++)
        {
            left[lane] -= groups;
            if (left[lane] == 0)
            {
                (scales[lane], left[lane]) = (BlockScales[next[lane]++], _size);
            }

            run = Math.Min(run, left[lane]);
        }

        return run;
    }

    // Product and sum are rounded one by one, as NestedScales.Dequantize does.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Decode(byte* codes, nint groups, float* scales, float* offsets, float* target)
    {
        float* map = _map;
        int lanes = Lanes, lane = 0;
        for (; Avx2.IsSupported && lane <= lanes - 8; lane += 8)
        {
            Vector256<float> scale = Vector256.Load(scales + lane), offset = Vector256.Load(offsets + lane);
            for (nint i = lane; i < groups * lanes; i += lanes)
            {
                Vector256<float> levels = Avx2.GatherVector256(map, Avx2.ConvertToVector256Int32(codes + i), sizeof(float));
                ((levels * scale) + offset).Store(target + i);
            }
        }

        for (; lane < lanes; lane++)
        {
            for (nint i = lane; i < groups * lanes; i += lanes)
            {
                target[i] = (map[codes[i]] * scales[lane]) + offsets[lane];
            }
        }
    }
}
