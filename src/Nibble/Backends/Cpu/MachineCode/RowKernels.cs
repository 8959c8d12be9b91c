using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Packings;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>The emitted kernels of one row (<see cref="RowTile"/>): one for each kind of codes and of offsets, made when first needed.</summary>
internal static unsafe class RowKernels
{
    private const int Formats = (int)ByteFormat.Levels + 1, Kinds = 3 * Formats;

    private static readonly Lazy<ExecutableMemory>[] Functions = [.. Enumerable.Range(0, Kinds).Select(kind => new Lazy<ExecutableMemory>(() => Create(kind)))];

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
        block[(int)TileArgument.ScaleStride] = rows[0].ScaleStride * sizeof(float);
        block[(int)TileArgument.OffsetStride] = rows[0].OffsetStride * sizeof(float);
        block[(int)TileArgument.Y] = (nint)rows[0].Result;
        block[(int)TileArgument.Bias] = (nint)rows[0].Levels;
        block[(int)TileArgument.Buffer] = RowTile.Mask(format);
        for (int panel = 0; panel < RowTile.Panels(format); panel++)
        {
            block[(int)TileArgument.PanelScales + panel] = (nint)rows[panel].Scales;
            block[(int)TileArgument.PanelOffsets + panel] = (nint)rows[panel].Offsets;
        }

        // Some ten microseconds at most: a collection waits that long, and every call saves the transition.
        ((delegate* unmanaged[SuppressGCTransition]<nint*, void>)Functions[((int)offsets * Formats) + (int)format].Value.Address)(block);
    }

    private static ExecutableMemory Create(int kind)
    {
        Assembler code = new();
        new RowTile(code, (ByteFormat)(kind % Formats), (ByteOffsets)(kind / Formats)).Emit();
        return ExecutableMemory.TryCreate(code.ToCode(), out string? why) ?? throw new OutOfMemoryException(why);
    }
}
