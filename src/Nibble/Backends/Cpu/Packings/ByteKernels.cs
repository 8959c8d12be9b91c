using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>Arguments of one product of int8 activations with a strip (two vectors of rows) of a panel.</summary>
internal unsafe struct ByteTile
{
    /// <summary>Words of the strip's first row at the first chunk.</summary>
    public uint* Words;

    /// <summary>Words from one vector of the panel to the next.</summary>
    public nint Step;

    /// <summary>Activations in the order of <see cref="Int8Activations"/>, bytes between rows.</summary>
    public sbyte* X;
    public nint XStride;

    /// <summary>Sum of the activations of each group, ints between rows.</summary>
    public int* Sums;
    public nint SumStride;

    /// <summary>Scales of the rows of x, with every constant factor in them.</summary>
    public float* XScales;

    public float* Scales, Offsets, Bias;
    public int ScaleStride, OffsetStride;
    public nint Groups, GroupChunks, LastChunks;

    /// <summary>Vectors of decoded bytes whose products fit in small sums.</summary>
    public nint FlushSteps;

    /// <summary>High bytes of 16 levels, then low ones.</summary>
    public byte* Levels;

    /// <summary>For machine code: how offsets enter, and bytes from the end of a group's last tile of x to the next group.</summary>
    public MachineCode.MachineOffsets Form;
    public nint XSkip;
    public float* Y;
    public nint YStride;
}

/// <summary>What the codes of a packing are multiplied as.</summary>
internal enum ByteFormat
{
    Bits2,
    Bits3,
    Bits4,
    Bits8,
    Levels,

    /// <summary>Codes already taken out of their words, as bytes: <see cref="DecodedStrip{V, L, B}"/>.</summary>
    Bytes,

    /// <summary>The same as 16-bit numbers, for activations of 16 bits.</summary>
    Words,

    /// <summary>High and low bytes of levels, for tiles: <see cref="MachineCode.AmxCodes"/>.</summary>
    Planes,
}

/// <summary>How the sums of a group enter the result.</summary>
internal enum ByteOffsets
{
    /// <summary>scale·(Σ code·x − offset·Σ x), offset a whole number: exact up to the product with the scale.</summary>
    Whole,

    /// <summary>The same, in floats.</summary>
    Real,

    /// <summary>scale·Σ code·x + offset·Σ x.</summary>
    Bias,
}

/// <summary>Products of packed codes with int8 activations, for one kind of vector.</summary>
internal abstract class ByteKernels
{
    /// <summary>Rows of a panel that one call multiplies.</summary>
    public abstract int StripLanes { get; }

    /// <summary>The kernels for an instruction set; with vpdpbusd where the processor has it and .NET offers it.</summary>
    public static ByteKernels For(CpuIsa isa) => isa switch
    {
        CpuIsa.Avx512 or CpuIsa.Avx2 when AvxVnni.IsSupported => new ByteKernels<Lanes256, Vector256<float>, BytesVnni, Vector256<byte>>(),
        CpuIsa.Avx512 => new ByteKernels<Lanes512, Vector512<float>, Bytes512, Vector512<byte>>(),
        CpuIsa.Avx2 when Avx2.IsSupported => new ByteKernels<Lanes256, Vector256<float>, Bytes256, Vector256<byte>>(),
        CpuIsa.Avx2 or CpuIsa.Vector128 => new ByteKernels<Lanes128, Vector128<float>, Bytes128, Vector128<byte>>(),
        _ => new ByteKernels<Lanes1, float, Bytes1, Bytes1.Lane>(),
    };

    /// <summary>Most rows of x of one call.</summary>
    public virtual int MostRows => 6;

    /// <summary>Rows of the kernel to use when <paramref name="left"/> rows are left: 6 if codes are decoded, 4, 2 or 1.</summary>
    public virtual int Rows(nint left, bool isDecoded) => left >= 6 && isDecoded ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;

    /// <summary>Vectors of bytes that a chunk of codes becomes.</summary>
    public static int Planes(ByteFormat format) => format switch
    {
        ByteFormat.Bits3 => 8,
        ByteFormat.Bits2 => 4,
        ByteFormat.Bits4 or ByteFormat.Levels => 2,
        _ => 1,
    };

    /// <summary>What codes become when they are decoded for many rows: <see cref="ByteFormat.Bytes"/> or <see cref="ByteFormat.Words"/>.</summary>
    public abstract ByteFormat Decoded(ByteFormat format);

    /// <summary>Decodes a strip and lets the tile read the result, which takes <see cref="DecodedWords"/> words.</summary>
    public abstract unsafe void Decode(ByteFormat format, ByteOffsets offsets, ref ByteTile tile, uint* target);

    /// <summary>Words of a decoded strip.</summary>
    public virtual nint DecodedWords(ByteFormat format, nint chunks, nint groups) =>
        chunks * Planes(format) * StripLanes * (Decoded(format) == ByteFormat.Words ? 2 : 1);

    /// <summary>Adds a run of groups of a panel for one row of x, from codes as they are packed.</summary>
    public virtual void RunRow(ByteFormat format, ByteOffsets offsets, in ByteRow row) => throw new NotSupportedException($"no kernel of one row for {format}");

    /// <summary>Neighbouring panels that <see cref="RunRows"/> multiplies by one row of x at once; 1: it has no kernel, and <see cref="RunRow"/> of other kernels does it.</summary>
    public virtual int RowPanels(ByteFormat format) => 1;

    /// <summary>As <see cref="RunRow"/>, several panels at once, whose results stand one after the other.</summary>
    public virtual unsafe void RunRows(ByteFormat format, ByteOffsets offsets, ByteRow* rows) => throw new NotSupportedException($"no kernel of one row and several panels for {format}");

    /// <summary>Computes a tile of as many rows of x as <see cref="Rows"/> says.</summary>
    public abstract void Run(ByteFormat format, ByteOffsets offsets, int rows, in ByteTile tile);
}

/// <inheritdoc/>
internal sealed class ByteKernels<S, V, L, B> : ByteKernels
    where S : struct, ILanes<V>
    where V : unmanaged
    where L : struct, IByteLanes<B, V>
    where B : unmanaged
{
    public override int StripLanes => 2 * L.Count;

    public override ByteFormat Decoded(ByteFormat format) => DecodedStrip<V, L, B>.Format(format);

    public override unsafe void Decode(ByteFormat format, ByteOffsets offsets, ref ByteTile tile, uint* target) =>
        DecodedStrip<V, L, B>.Write(format, ref tile, target);

    public override void Run(ByteFormat format, ByteOffsets offsets, int rows, in ByteTile tile)
    {
        switch (offsets)
        {
            case ByteOffsets.Whole: Run<WholeOffsets>(format, rows, tile); break;
            case ByteOffsets.Real: Run<RealOffsets>(format, rows, tile); break;
            default: Run<BiasOffsets>(format, rows, tile); break;
        }
    }

    public override void RunRow(ByteFormat format, ByteOffsets offsets, in ByteRow row)
    {
        switch (offsets)
        {
            case ByteOffsets.Whole: RunRow<WholeOffsets>(format, row); break;
            case ByteOffsets.Real: RunRow<RealOffsets>(format, row); break;
            default: RunRow<BiasOffsets>(format, row); break;
        }
    }

    private static void RunRow<E>(ByteFormat format, in ByteRow row)
        where E : struct, IByteEpilogue
    {
        switch (format)
        {
            case ByteFormat.Bits2: ByteRows<S, V, L, B, E, RowBits2>.Add(row); break;
            case ByteFormat.Bits3: ByteRows<S, V, L, B, E, RowBits3>.Add(row); break;
            case ByteFormat.Bits4: ByteRows<S, V, L, B, E, RowBits4>.Add(row); break;
            case ByteFormat.Bits8: ByteRows<S, V, L, B, E, RowBits8>.Add(row); break;
            case ByteFormat.Levels: ByteRows<S, V, L, B, E, RowLevels>.Add(row); break;
            default: throw new InvalidOperationException($"no kernel of one row for {format}");
        }
    }

    private static void Run<E>(ByteFormat format, int rows, in ByteTile tile)
        where E : struct, IByteEpilogue
    {
        switch (((int)format * 8) + rows)
        {
            case 1: ByteTiles<S, V, L, B, E>.Bits2R1(tile); break;
            case 2: ByteTiles<S, V, L, B, E>.Bits2R2(tile); break;
            case 4: ByteTiles<S, V, L, B, E>.Bits2R4(tile); break;
            case 9: ByteTiles<S, V, L, B, E>.Bits3R1(tile); break;
            case 10: ByteTiles<S, V, L, B, E>.Bits3R2(tile); break;
            case 12: ByteTiles<S, V, L, B, E>.Bits3R4(tile); break;
            case 17: ByteTiles<S, V, L, B, E>.Bits4R1(tile); break;
            case 18: ByteTiles<S, V, L, B, E>.Bits4R2(tile); break;
            case 20: ByteTiles<S, V, L, B, E>.Bits4R4(tile); break;
            case 25: ByteTiles<S, V, L, B, E>.Bits8R1(tile); break;
            case 26: ByteTiles<S, V, L, B, E>.Bits8R2(tile); break;
            case 28: ByteTiles<S, V, L, B, E>.Bits8R4(tile); break;
            case 33: ByteTiles<S, V, L, B, E>.LevelsR1(tile); break;
            case 34: ByteTiles<S, V, L, B, E>.LevelsR2(tile); break;
            case 36: ByteTiles<S, V, L, B, E>.LevelsR4(tile); break;
            case 41: ByteTiles<S, V, L, B, E>.BytesR1(tile); break;
            case 42: ByteTiles<S, V, L, B, E>.BytesR2(tile); break;
            case 44: ByteTiles<S, V, L, B, E>.BytesR4(tile); break;
            case 46: ByteTiles<S, V, L, B, E>.BytesR6(tile); break;
            case 49: ByteTiles<S, V, L, B, E>.WordsR1(tile); break;
            case 50: ByteTiles<S, V, L, B, E>.WordsR2(tile); break;
            case 52: ByteTiles<S, V, L, B, E>.WordsR4(tile); break;
            case 54: ByteTiles<S, V, L, B, E>.WordsR6(tile); break;
            default: throw new InvalidOperationException($"no byte tile of {rows} rows for {format}");
        }
    }
}

/// <summary>One <see cref="ByteOffsets"/> as a type.</summary>
internal interface IByteEpilogue
{
    /// <summary>The result so far plus one group: its sum of code·x, and n, its sum of x in every lane.</summary>
    static abstract V Add<S, V, L, B>(V result, B sum, V scale, V offset, B n)
        where S : struct, ILanes<V>
        where V : unmanaged
        where L : struct, IByteLanes<B, V>
        where B : unmanaged;
}

/// <inheritdoc cref="ByteOffsets.Whole"/>
internal readonly struct WholeOffsets : IByteEpilogue
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Add<S, V, L, B>(V result, B sum, V scale, V offset, B n)
        where S : struct, ILanes<V>
        where V : unmanaged
        where L : struct, IByteLanes<B, V>
        where B : unmanaged => S.MultiplyAdd(scale, L.ToFloat(L.SubtractProduct(sum, offset, n)), result);
}

/// <inheritdoc cref="ByteOffsets.Real"/>
internal readonly struct RealOffsets : IByteEpilogue
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Add<S, V, L, B>(V result, B sum, V scale, V offset, B n)
        where S : struct, ILanes<V>
        where V : unmanaged
        where L : struct, IByteLanes<B, V>
        where B : unmanaged => S.MultiplyAdd(scale, S.Subtract(L.ToFloat(sum), S.Multiply(offset, L.ToFloat(n))), result);
}

/// <inheritdoc cref="ByteOffsets.Bias"/>
internal readonly struct BiasOffsets : IByteEpilogue
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Add<S, V, L, B>(V result, B sum, V scale, V offset, B n)
        where S : struct, ILanes<V>
        where V : unmanaged
        where L : struct, IByteLanes<B, V>
        where B : unmanaged => S.MultiplyAdd(offset, L.ToFloat(n), S.MultiplyAdd(scale, L.ToFloat(sum), result));
}
