using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Packings;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>The emitted kernels of one row (<see cref="RowTile"/>): one for each kind of codes, offsets and numbers they are kept in, made when first needed.</summary>
internal static unsafe class RowKernels
{
    private static readonly ExecutableMemory?[] Functions = new ExecutableMemory?[((int)ByteFormat.Levels + 1) * 3 * 16];

    private static readonly Lock Making = new();

    /// <summary>Adds a run of groups of <see cref="RowTile.Panels"/> neighbouring panels; their results stand one after the other.</summary>
    [SkipLocalsInit]
    public static void Run(ByteFormat format, ByteOffsets offsets, ByteRow* rows)
    {
        nint* block = stackalloc nint[CallFrame.ByteLength / sizeof(nint)];
        block[(int)TileArgument.Words] = (nint)rows[0].Words;
        block[(int)TileArgument.XStride] = (nint)rows[1].Words - (nint)rows[0].Words;
        block[(int)TileArgument.X] = (nint)rows[0].X;
        block[(int)TileArgument.Sums] = (nint)rows[0].Sums;
        block[(int)TileArgument.Groups] = rows[0].Groups;
        block[(int)TileArgument.GroupSteps] = rows[0].GroupChunks;
        block[(int)TileArgument.LastSteps] = rows[0].LastChunks;
        block[(int)TileArgument.ScaleStride] = rows[0].ScaleStride * rows[0].ScaleType.Size();
        block[(int)TileArgument.OffsetStride] = rows[0].OffsetStride * rows[0].OffsetType.Size();
        block[(int)TileArgument.Y] = (nint)rows[0].Result;
        block[(int)TileArgument.Bias] = (nint)rows[0].Levels;
        block[(int)TileArgument.Buffer] = (nint)RowTile.Mask(format);
        for (int panel = 0; panel < RowTile.Panels; panel++)
        {
            block[(int)TileArgument.PanelScales + panel] = (nint)rows[panel].Scales;
            block[(int)TileArgument.PanelOffsets + panel] = (nint)rows[panel].Offsets;
        }

        // Some ten microseconds at most: a collection waits that long, and every call saves the transition.
        ((delegate* unmanaged[SuppressGCTransition]<nint*, void>)Function(format, offsets, rows[0].ScaleType, rows[0].OffsetType))(block);
    }

    private static nint Function(ByteFormat format, ByteOffsets offsets, DType scaleType, DType offsetType)
    {
        int index = (4 * ((4 * ((3 * (int)format) + (int)offsets)) + Place(scaleType))) + Place(offsetType);
        return (Volatile.Read(ref Functions[index]) ?? Make(index, format, offsets, scaleType, offsetType)).Address;
    }

    // In which scales and offsets may be kept.
    private static int Place(DType type) => type switch
    {
        DType.F32 => 0,
        DType.F16 => 1,
        DType.BF16 => 2,
        _ => 3,
    };

    private static ExecutableMemory Make(int index, ByteFormat format, ByteOffsets offsets, DType scaleType, DType offsetType)
    {
        lock (Making)
        {
            if (Functions[index] is { } made)
            {
                return made;
            }

            Assembler code = new();
            new RowTile(code, format, offsets, scaleType, offsetType).Emit();
            ExecutableMemory memory = ExecutableMemory.TryCreate(code.ToCode(), out string? why) ?? throw new OutOfMemoryException(why);
            Volatile.Write(ref Functions[index], memory);
            return memory;
        }
    }
}
