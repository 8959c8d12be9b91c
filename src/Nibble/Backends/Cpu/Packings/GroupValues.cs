using System.Runtime.Intrinsics;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>
/// Scales or offsets of a packing, <c>[panel][group][lane]</c>, in the smallest form that gives every value back bit for bit.
/// Kernels read floats: <see cref="Read"/> gives those of a run of groups.
/// </summary>
internal abstract unsafe class GroupValues(int lanes) : IDisposable
{
    public abstract nint ByteLength { get; }

    /// <summary>Floats from one group to the next: the panel's lanes, or 0 if all values are the same.</summary>
    public virtual int Stride => Lanes;

    protected int Lanes => lanes;

    /// <summary>The values of <paramref name="count"/> groups of a panel as floats: in place, or in <paramref name="buffer"/>.</summary>
    public abstract float* Read(nint panel, nint group, nint count, float* buffer);

    /// <summary>One value.</summary>
    public float At(nint row, nint group)
    {
        float* buffer = stackalloc float[Lanes];
        return Read(row / Lanes, group, 1, buffer)[row % Lanes];
    }

    public abstract void Dispose();

    /// <summary>Keeps <paramref name="value"/>(row, group); rows beyond the matrix get 0.</summary>
    public static GroupValues Create(nint rows, nint groups, int lanes, Func<nint, nint, float> value)
    {
        nint panels = (rows + lanes - 1) / lanes;
        float[] values = new float[checked((int)(panels * groups * lanes))];
        for (nint row = 0; row < rows; row++)
        {
            for (nint group = 0; group < groups; group++)
            {
                values[(((row / lanes * groups) + group) * lanes) + (row % lanes)] = value(row, group);
            }
        }

        return values.Length > 0 && rows == panels * lanes && IsConstant(values)
            ? new Constant(values[0], lanes)
            : new Stored(values, groups, Smallest(values), lanes);
    }

    /// <summary>One value for all rows and groups, those beyond the matrix included.</summary>
    public static GroupValues Same(float value, int lanes) => new Constant(value, lanes);

    /// <summary>Absmax values that stay quantized; block(row, group) is the index of a value, −1 beyond the matrix.</summary>
    public static GroupValues Create(NestedScales nested, nint rows, nint groups, int lanes, Func<nint, nint, nint> block) =>
        new NestedValues(nested, rows, groups, lanes, block);

    private static bool IsConstant(float[] values) =>
        Array.TrueForAll(values, v => BitConverter.SingleToInt32Bits(v) == BitConverter.SingleToInt32Bits(values[0]));

    private static DType Smallest(float[] values)
    {
        static bool Same(float a, float b) => BitConverter.SingleToInt32Bits(a) == BitConverter.SingleToInt32Bits(b);
        return Array.TrueForAll(values, static v => Same((byte)Math.Clamp(v, 0, 255), v)) ? DType.U8
            : Array.TrueForAll(values, static v => (BitConverter.SingleToUInt32Bits(v) & 0xffff) == 0) ? DType.BF16
            : Array.TrueForAll(values, static v => Same((float)(Half)v, v)) ? DType.F16
            : DType.F32;
    }

    private sealed class Constant : GroupValues
    {
        private readonly NativeStorage _storage;

        public Constant(float value, int lanes)
            : base(lanes)
        {
            _storage = new NativeStorage(lanes * sizeof(float));
            new Span<float>(_storage.Pointer, lanes).Fill(value);
        }

        public override nint ByteLength => sizeof(float);

        public override int Stride => 0;

        public override float* Read(nint panel, nint group, nint count, float* buffer) => (float*)_storage.Pointer;

        public override void Dispose() => _storage.Dispose();
    }

    private sealed class Stored : GroupValues
    {
        private readonly NativeStorage _storage;
        private readonly nint _groups;
        private readonly DType _dtype;

        public Stored(float[] values, nint groups, DType dtype, int lanes)
            : base(lanes)
        {
            (_groups, _dtype) = (groups, dtype);
            _storage = new NativeStorage(values.Length * dtype.Size());
            for (int i = 0; i < values.Length; i++)
            {
                Store(values[i], i);
            }
        }

        public override nint ByteLength => _storage.ByteLength;

        public override float* Read(nint panel, nint group, nint count, float* buffer)
        {
            nint first = ((panel * _groups) + group) * Lanes;
            byte* source = _storage.Pointer + (first * _dtype.Size());
            if (_dtype == DType.F32)
            {
                return (float*)source;
            }

            GroupWidening.Widen(_dtype, source, count * Lanes, buffer);
            return buffer;
        }

        public override void Dispose() => _storage.Dispose();

        private void Store(float value, int i)
        {
            switch (_dtype)
            {
                case DType.F32:
                    ((float*)_storage.Pointer)[i] = value;
                    break;
                case DType.F16:
                    ((Half*)_storage.Pointer)[i] = (Half)value;
                    break;
                case DType.BF16:
                    ((ushort*)_storage.Pointer)[i] = (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16);
                    break;
                default:
                    _storage.Pointer[i] = (byte)value;
                    break;
            }
        }
    }

    /// <summary>Double quantization: one byte a block in memory, decoded when read.</summary>
    private sealed class NestedValues : GroupValues
    {
        private readonly NativeStorage _storage;
        private readonly nint _groups;
        private readonly NestedScales _nested;
        private readonly int[] _blocks;

        public NestedValues(NestedScales nested, nint rows, nint groups, int lanes, Func<nint, nint, nint> block)
            : base(lanes)
        {
            (_nested, _groups) = (nested, groups);
            nint padded = (rows + lanes - 1) / lanes * lanes;
            _blocks = new int[checked((int)padded)];
            _storage = new NativeStorage(padded * groups);
            for (nint row = 0; row < padded; row++)
            {
                _blocks[row] = row < rows ? checked((int)block(row, 0)) : -1;
                for (nint group = 0; row < rows && group < groups; group++)
                {
                    _storage.Pointer[(((row / lanes * groups) + group) * lanes) + (row % lanes)] = nested.Codes[block(row, group)];
                }
            }
        }

        public override nint ByteLength =>
            _storage.ByteLength + (sizeof(float) * (_nested.BlockScales.Length + _nested.Map.Length)) + (sizeof(int) * _blocks.Length);

        public override float* Read(nint panel, nint group, nint count, float* buffer)
        {
            byte* codes = _storage.Pointer + (((panel * _groups) + group) * Lanes);
            float[] map = _nested.Map, scales = _nested.BlockScales;
            for (int lane = 0; lane < Lanes; lane++)
            {
                int block = _blocks[(panel * Lanes) + lane];
                for (nint g = 0; g < count; g++)
                {
                    buffer[(g * Lanes) + lane] = block < 0
                        ? 0
                        : (map[codes[(g * Lanes) + lane]] * scales[(block + group + g) / _nested.BlockSize]) + _nested.Offset;
                }
            }

            return buffer;
        }

        public override void Dispose() => _storage.Dispose();
    }
}

/// <summary>Widening of stored scales to floats, 8 at a time.</summary>
internal static unsafe class GroupWidening
{
    /// <summary>Reads up to 8 values past <paramref name="count"/>, and writes none.</summary>
    public static void Widen(DType dtype, byte* source, nint count, float* destination)
    {
        nint i = 0;
        for (; i <= count - 8; i += 8)
        {
            Vector256<float> wide = dtype == DType.U8
                ? Vector256.ConvertToSingle(Bytes(source + i).AsInt32())
                : Words(dtype, Vector256.WidenLower(Vector128.Load((ushort*)source + i).ToVector256Unsafe()));
            wide.Store(destination + i);
        }

        for (; i < count; i++)
        {
            destination[i] = dtype switch
            {
                DType.U8 => source[i],
                DType.F16 => (float)((Half*)source)[i],
                _ => BitConverter.UInt32BitsToSingle((uint)((ushort*)source)[i] << 16),
            };
        }
    }

    private static Vector256<uint> Bytes(byte* source) =>
        Vector256.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)source).AsByte()).ToVector256Unsafe());

    private static Vector256<float> Words(DType dtype, Vector256<uint> words)
    {
        if (dtype == DType.BF16)
        {
            return Vector256.ShiftLeft(words, 16).AsSingle();
        }

        // As in Lanes256: the exponent's bias is corrected by a product, which is exact, also for subnormal halves.
        Vector256<uint> sign = Vector256.ShiftLeft(words & Vector256.Create(0x8000u), 16);
        Vector256<uint> magnitude = Vector256.ShiftLeft(words & Vector256.Create(0x7fffu), 13);
        Vector256<uint> special = Vector256.GreaterThan(magnitude.AsInt32(), Vector256.Create(0x0f7fffff)).AsUInt32() & Vector256.Create(0x7f800000u);
        return ((magnitude.AsSingle() * Vector256.Create(5.192296858534828e33f)).AsUInt32() | special | sign).AsSingle();
    }
}
