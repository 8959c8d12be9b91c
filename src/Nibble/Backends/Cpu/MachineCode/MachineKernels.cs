using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.Packings;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>What kernels of emitted code have in common: they multiply whole panels of decoded codes, for many rows of x.</summary>
internal abstract unsafe class MachineKernels : ByteKernels
{
    protected const int Lanes = 32;

    // −32768 … 32767 holds Σ x of as many columns (127 each): see MachineOffsets.WholeShort.
    private const int MostShortColumns = 256;

    public override int StripLanes => Lanes;

    public override int RowPanels(ByteFormat format) => RowTile.Panels;

    public override void RunRows(ByteFormat format, ByteOffsets offsets, ByteRow* rows) => RowKernels.Run(format, offsets, rows);

    /// <summary>Columns of x that a chunk of packed codes holds.</summary>
    protected static int ColumnsPerChunk(ByteFormat format) => format switch
    {
        ByteFormat.Bits2 => 16,
        ByteFormat.Bits3 => 32,
        ByteFormat.Bits4 or ByteFormat.Levels => 8,
        _ => 4,
    };

    /// <summary>How the emitted code adds offsets.</summary>
    protected static MachineOffsets Form(ByteOffsets offsets, in ByteTile tile, int columnsPerChunk) => offsets switch
    {
        ByteOffsets.Real => MachineOffsets.Real,
        ByteOffsets.Bias => MachineOffsets.Bias,
        _ => nint.Max(tile.GroupChunks, tile.LastChunks) * columnsPerChunk <= MostShortColumns ? MachineOffsets.WholeShort : MachineOffsets.Whole,
    };

    /// <summary>Writes offsets as the code of <see cref="ByteTile.Form"/> wants them, if it wants others than floats; returns the words taken.</summary>
    protected static nint WriteOffsets(ref ByteTile tile, int* target)
    {
        if (tile.Form is not (MachineOffsets.WholeShort or MachineOffsets.Whole))
        {
            return 0;
        }

        nint count = tile.OffsetStride == 0 ? Lanes : tile.Groups * Lanes;
        for (nint i = 0; i < count; i += Vector512<int>.Count)
        {
            Vector512<int> offset = Vector512.ConvertToInt32(Vector512.Load(tile.Offsets + i));
            (tile.Form == MachineOffsets.WholeShort ? -offset & Vector512.Create(0xffff) : offset).Store(target + i);
        }

        tile.Offsets = (float*)target;
        return count;
    }

    /// <summary>Writes the arguments of a call, strides in bytes.</summary>
    protected static void Fill(nint* block, in ByteTile tile)
    {
        block[(int)TileArgument.Words] = (nint)tile.Words;
        block[(int)TileArgument.X] = (nint)tile.X;
        block[(int)TileArgument.XStride] = tile.XStride;
        block[(int)TileArgument.Sums] = (nint)tile.Sums;
        block[(int)TileArgument.SumStride] = tile.SumStride * sizeof(int);
        block[(int)TileArgument.Scales] = (nint)tile.Scales;
        block[(int)TileArgument.ScaleStride] = tile.ScaleStride * sizeof(float);
        block[(int)TileArgument.Offsets] = (nint)tile.Offsets;
        block[(int)TileArgument.OffsetStride] = tile.OffsetStride * sizeof(float);
        block[(int)TileArgument.Groups] = tile.Groups;
        block[(int)TileArgument.GroupSteps] = tile.GroupChunks;
        block[(int)TileArgument.LastSteps] = tile.LastChunks;
        block[(int)TileArgument.XScales] = (nint)tile.XScales;
        block[(int)TileArgument.Bias] = (nint)tile.Bias;
        block[(int)TileArgument.Y] = (nint)tile.Y;
        block[(int)TileArgument.YStride] = tile.YStride * sizeof(float);
    }
}
