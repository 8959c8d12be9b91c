using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.PackCache;
using Nibble.Quantization;
using Nibble.Quantization.Methods;
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

    /// <summary>True if <see cref="Raw"/> needs no memory.</summary>
    public virtual bool IsRaw => false;

    /// <summary>As <see cref="Read"/>, but in place as numbers of <paramref name="dtype"/> where values stand so.</summary>
    public virtual float* Raw(nint panel, nint group, nint count, float* buffer, out DType dtype)
    {
        dtype = DType.F32;
        return Read(panel, group, count, buffer);
    }

    /// <summary>One value.</summary>
    public float At(nint row, nint group)
    {
        float* buffer = stackalloc float[Lanes];
        return Read(row / Lanes, group, 1, buffer)[row % Lanes];
    }

    /// <summary>Writes the values for <see cref="Open"/>.</summary>
    public abstract void Save(PackWriter writer);

    public abstract void Dispose();

    /// <summary>Reads values that were saved; the layout is that of their packing.</summary>
    public static GroupValues Open(PackReader reader, GroupLayout layout, nint rows, int lanes)
    {
        nint padded = (rows + lanes - 1) / lanes * lanes;
        return reader.Text() switch
        {
            Constant.Kind => new Constant(reader.Float(), lanes),
            Stored.Kind => new Stored(reader, padded, layout.Count, lanes),
            NestedGroupValues.Kind => NestedGroupValues.Saved(reader, layout, rows, lanes),
            ElementValues.Kind => new ElementValues(reader.Floats(), layout, rows, lanes),
            { } kind => throw new InvalidDataException($"no values are called {kind}"),
        };
    }

    /// <summary>Keeps <paramref name="value"/>(row, group); rows beyond the matrix get 0.</summary>
    public static GroupValues Create(nint rows, nint groups, int lanes, Func<nint, nint, float> value)
    {
        nint panels = (rows + lanes - 1) / lanes;
        float[] values = new float[checked((int)(panels * groups * lanes))];
        Spread.Over(rows, groups, (first, last) =>
        {
            for (nint row = first; row < last; row++)
            {
                ref float place = ref values[(row / lanes * groups * lanes) + (row % lanes)];
                for (nint group = 0; group < groups; group++)
                {
                    Unsafe.Add(ref place, group * lanes) = value(row, group);
                }
            }
        });

        return values.Length > 0 && rows == panels * lanes && IsConstant(values)
            ? new Constant(values[0], lanes)
            : new Stored(values, groups, Smallest(values), lanes);
    }

    /// <summary>One value for all rows and groups, those beyond the matrix included.</summary>
    public static GroupValues Same(float value, int lanes) => new Constant(value, lanes);

    private static bool IsConstant(float[] values) =>
        Array.TrueForAll(values, v => BitConverter.SingleToInt32Bits(v) == BitConverter.SingleToInt32Bits(values[0]));

    private static DType Smallest(float[] values)
    {
        static bool Same(float a, float b) => BitConverter.SingleToInt32Bits(a) == BitConverter.SingleToInt32Bits(b);
        return All(values, static v => Same((byte)Math.Clamp(v, 0, 255), v)) ? DType.U8
            : All(values, static v => (BitConverter.SingleToUInt32Bits(v) & 0xffff) == 0) ? DType.BF16
            : All(values, static v => Same((float)(Half)v, v)) ? DType.F16
            : DType.F32;
    }

    private static bool All(float[] values, Predicate<float> holds)
    {
        bool all = true;
        Spread.Over(values.Length, 1, (first, last) =>
        {
            for (nint i = first; i < last && Volatile.Read(ref all); i++)
            {
                if (!holds(values[i]))
                {
                    Volatile.Write(ref all, false);
                }
            }
        });
        return all;
    }

    private sealed class Constant : GroupValues
    {
        public const string Kind = "constant";

        private readonly NativeStorage _storage;

        public Constant(float value, int lanes)
            : base(lanes)
        {
            _storage = new NativeStorage(lanes * sizeof(float));
            new Span<float>(_storage.Pointer, lanes).Fill(value);
        }

        public override nint ByteLength => sizeof(float);

        public override int Stride => 0;

        public override bool IsRaw => true;

        public override float* Read(nint panel, nint group, nint count, float* buffer) => (float*)_storage.Pointer;

        public override void Save(PackWriter writer)
        {
            writer.Text(Kind);
            writer.Float(*(float*)_storage.Pointer);
        }

        public override void Dispose() => _storage.Dispose();
    }

    private sealed class Stored : GroupValues
    {
        public const string Kind = "stored";

        private readonly HostStorage _storage;
        private readonly nint _groups;
        private readonly DType _dtype;
        private readonly bool _areFinite;

        public Stored(float[] values, nint groups, DType dtype, int lanes)
            : base(lanes)
        {
            (_groups, _dtype, _areFinite) = (groups, dtype, dtype == DType.F16 && All(values, float.IsFinite));
            _storage = new NativeStorage(values.Length * dtype.Size());
            Spread.Over(values.Length, 1, (first, last) =>
            {
                for (int i = (int)first; i < last; i++)
                {
                    Store(values[i], i);
                }
            });
        }

        public Stored(PackReader reader, nint rows, nint groups, int lanes)
            : base(lanes)
        {
            (_groups, _dtype, _areFinite) = (groups, (DType)reader.Int(), reader.Flag());
            _storage = reader.Block(checked(rows * groups * _dtype.Size()));
        }

        public override nint ByteLength => _storage.ByteLength;

        public override bool IsRaw => true;

        public override float* Raw(nint panel, nint group, nint count, float* buffer, out DType dtype)
        {
            dtype = _dtype;
            return (float*)(_storage.Pointer + (((panel * _groups) + group) * Lanes * _dtype.Size()));
        }

        public override void Save(PackWriter writer)
        {
            writer.Text(Kind);
            writer.Number((int)_dtype);
            writer.Flag(_areFinite);
            writer.Block(_storage);
        }

        public override float* Read(nint panel, nint group, nint count, float* buffer)
        {
            nint first = ((panel * _groups) + group) * Lanes;
            byte* source = _storage.Pointer + (first * _dtype.Size());
            if (_dtype == DType.F32)
            {
                return (float*)source;
            }

            GroupWidening.Widen(_dtype, _areFinite, source, count * Lanes, buffer);
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
}
