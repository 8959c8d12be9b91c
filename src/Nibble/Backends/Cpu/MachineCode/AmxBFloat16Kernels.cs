using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.BFloat16;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>BF16 products of AMX tiles in emitted code. Each call sets up its tiles and gives them up again.</summary>
internal sealed unsafe class AmxBFloat16Kernels : BFloat16Kernels
{
    private const int Rows = 2 * AmxTile.TileRows;

    private static readonly Lazy<ExecutableMemory> High = new(() => Create(isHigh: true)), Low = new(() => Create(isHigh: false));

    public override string Name => "tdpbf16ps";

    [SkipLocalsInit]
    public override void Run(in BFloat16Tile tile)
    {
        if (!SignalStack.TryMakeRoom())
        {
            throw new OutOfMemoryException("no memory for the signal stack that a thread needs before it uses AMX tiles");
        }

        nint whole = tile.Rows / Rows;
        if (whole > 0)
        {
            Call(tile, 0, Rows, whole);
        }

        if (tile.Rows > whole * Rows)
        {
            Call(tile, whole * Rows, (int)(tile.Rows - (whole * Rows)), 1);
        }
    }

    private static void Call(in BFloat16Tile tile, nint row, int rows, nint groups)
    {
        nint* block = stackalloc nint[CallFrame.ByteLength / sizeof(nint)];
        Fill(block, tile, row);
        block[(int)TileArgument.Groups] = groups;
        block[(int)TileArgument.TileStride] = tile.TileStride * sizeof(ushort);
        fixed (byte* config = AmxKernels.Config(rows))
        {
            block[(int)TileArgument.TileConfig] = (nint)config;
            nint code = (rows > AmxTile.TileRows ? High : Low).Value.Address;

            // Some microseconds at most: a collection waits that long, and every call saves the transition.
            ((delegate* unmanaged[SuppressGCTransition]<nint*, void>)code)(block);
        }
    }

    /// <summary>Writes the arguments that both kinds of machine code take.</summary>
    internal static void Fill(nint* block, in BFloat16Tile tile, nint row)
    {
        block[(int)TileArgument.Words] = (nint)tile.B;
        block[(int)TileArgument.X] = (nint)(tile.A + (row / BFloat16Layout.TileRows * tile.TileStride) + (row % BFloat16Layout.TileRows * BFloat16Layout.Step));
        block[(int)TileArgument.GroupSteps] = tile.Steps;
        block[(int)TileArgument.Start] = (nint)(tile.Start + (row * tile.StartStride));
        block[(int)TileArgument.StartStride] = tile.StartStride * sizeof(float);
        block[(int)TileArgument.Y] = (nint)(tile.C + (row * tile.CStride));
        block[(int)TileArgument.YStride] = tile.CStride * sizeof(float);
    }

    private static ExecutableMemory Create(bool isHigh)
    {
        Assembler code = new();
        new AmxBFloat16Tile(code, isHigh).Emit();
        return ExecutableMemory.TryCreate(code.ToCode(), out string? why) ?? throw new OutOfMemoryException(why);
    }
}
