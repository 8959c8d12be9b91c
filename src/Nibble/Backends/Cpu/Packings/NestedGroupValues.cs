using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>Absmax values of double quantization: one byte a block in memory, decoded when read.</summary>
internal sealed unsafe class NestedGroupValues : GroupValues
{
    public const string Kind = "nested";

    private readonly HostStorage _codes;
    private readonly HostStorage _tables;
    private readonly HostStorage _blocks;
    private readonly nint _groups;
    private readonly NestedScales _nested;
    private readonly int _shift;

    /// <summary>block(row, group): which of the codes.</summary>
    public NestedGroupValues(NestedScales nested, nint rows, nint groups, int lanes, Func<nint, nint, nint> block)
        : base(lanes)
    {
        (_nested, _groups) = (nested, groups);
        _shift = BitOperations.IsPow2(nested.BlockSize) ? BitOperations.Log2((uint)nested.BlockSize) : -1;
        nint padded = (rows + lanes - 1) / lanes * lanes;
        _blocks = new NativeStorage(padded * sizeof(int));
        _codes = new NativeStorage(padded * groups);
        _tables = new NativeStorage(sizeof(float) * (nested.Map.Length + nested.BlockScales.Length));
        nested.Map.CopyTo(new Span<float>(Map, nested.Map.Length));
        nested.BlockScales.CopyTo(new Span<float>(BlockScales, nested.BlockScales.Length));
        for (nint row = 0; row < padded; row++)
        {
            ((int*)_blocks.Pointer)[row] = row < rows ? checked((int)block(row, 0)) : -1;
            for (nint group = 0; row < rows && group < groups; group++)
            {
                _codes.Pointer[(((row / lanes * groups) + group) * lanes) + (row % lanes)] = nested.Codes[block(row, group)];
            }
        }
    }

    public NestedGroupValues(PackReader reader, nint rows, nint groups, int lanes)
        : base(lanes)
    {
        _nested = OpenScales(reader);
        (_groups, _shift) = (groups, BitOperations.IsPow2(_nested.BlockSize) ? BitOperations.Log2((uint)_nested.BlockSize) : -1);
        _blocks = reader.Block(rows * sizeof(int));
        _codes = reader.Block(rows * groups);
        _tables = reader.Block(sizeof(float) * (_nested.Map.Length + _nested.BlockScales.Length));
    }

    public override nint ByteLength => _codes.ByteLength + _tables.ByteLength + _blocks.ByteLength;

    private float* Map => (float*)_tables.Pointer;

    private float* BlockScales => Map + _nested.Map.Length;

    public override void Save(PackWriter writer)
    {
        writer.Text(Kind);
        SaveScales(writer, _nested);
        writer.Block(_blocks);
        writer.Block(_codes);
        writer.Block(_tables);
    }

    public static void SaveScales(PackWriter writer, NestedScales scales)
    {
        writer.Bytes(scales.Codes);
        writer.Floats(scales.BlockScales);
        writer.Floats(scales.Map);
        writer.Float(scales.Offset);
        writer.Number(scales.BlockSize);
    }

    public static NestedScales OpenScales(PackReader reader) =>
        new([.. reader.Bytes()], reader.Floats(), reader.Floats(), reader.Float(), reader.Int());

    [SkipLocalsInit]
    public override float* Read(nint panel, nint group, nint count, float* buffer)
    {
        int lanes = Lanes;
        int* left = stackalloc int[lanes], next = stackalloc int[lanes];
        float* scales = stackalloc float[lanes], offsets = stackalloc float[lanes];
        nint run = nint.Min(count, Begin(panel, (int)group, left, next, scales, offsets));
        byte* codes = _codes.Pointer + (((panel * _groups) + group) * lanes);
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
        _tables.Dispose();
        _blocks.Dispose();
    }

    /// <summary>Sets the scale of each row at a group; returns the groups until the first row comes to its next block of scales.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Begin(nint panel, int group, int* left, int* next, float* scales, float* offsets)
    {
        int* blocks = (int*)_blocks.Pointer + (panel * Lanes);
        int size = _nested.BlockSize, run = int.MaxValue;
        for (int lane = 0; lane < Lanes; lane++)
        {
            (scales[lane], offsets[lane], left[lane]) = (0, 0, int.MaxValue);
            if (blocks[lane] >= 0)
            {
                // A division would take longer than the rest; sizes are powers of two in practice.
                int block = blocks[lane] + group, index = _shift >= 0 ? block >> _shift : block / size;
                (scales[lane], offsets[lane]) = (BlockScales[index], _nested.Offset);
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
                (scales[lane], left[lane]) = (BlockScales[next[lane]++], _nested.BlockSize);
            }

            run = Math.Min(run, left[lane]);
        }

        return run;
    }

    // Product and sum are rounded one by one, as NestedScales.Dequantize does.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Decode(byte* codes, nint groups, float* scales, float* offsets, float* target)
    {
        float* map = Map;
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
