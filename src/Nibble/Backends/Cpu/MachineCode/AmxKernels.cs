using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Packings;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Products of decoded codes with int8 activations through AMX tiles, in emitted code. Each call sets up its tiles and gives them up again, so
/// that no thread keeps 8 KB of state. Results have the bits of the C# kernels.
/// </summary>
internal sealed unsafe class AmxKernels : MachineKernels
{
    private const int Shapes = 3, Kinds = Shapes * 5;
    private const int ConfigBytes = 64, Alignment = 64;

    private static readonly Lazy<ExecutableMemory>[] Tiles = [.. Enumerable.Range(0, Kinds).Select(kind => new Lazy<ExecutableMemory>(() => Create(kind)))];

    private static readonly byte[] Configs = CreateConfigs();

    public override int MostRows => 2 * AmxTile.TileRows;

    public override ByteFormat Decoded(ByteFormat format) => format == ByteFormat.Levels ? ByteFormat.Planes : ByteFormat.Bytes;

    public override int Rows(nint left, bool isDecoded) => (int)nint.Min(left, MostRows);

    public override nint DecodedWords(ByteFormat format, nint chunks, nint groups) => AmxCodes.Words(format, chunks, groups) + (groups * Lanes);

    public override void Decode(ByteFormat format, ByteOffsets offsets, ref ByteTile tile, uint* target)
    {
        tile.Form = offsets == ByteOffsets.Whole && AmxCodes.CanBeSigned(format, tile)
            ? MachineOffsets.None : Form(offsets, tile, ColumnsPerChunk(format));
        target += WriteOffsets(ref tile, (int*)target);
        AmxCodes.Write(format, ref tile, target);
    }

    [SkipLocalsInit]
    public override void Run(ByteFormat format, ByteOffsets offsets, int rows, in ByteTile tile)
    {
        if (!SignalStack.TryMakeRoom())
        {
            throw new OutOfMemoryException("no memory for the signal stack that a thread needs before it uses AMX tiles");
        }

        const int Room = CallFrame.ByteLength + AmxTile.BufferBytes + Alignment;
        byte* room = stackalloc byte[Room];
        byte* buffer = (byte*)(((nint)room + Alignment - 1) & -Alignment);
        nint* block = (nint*)(buffer + AmxTile.BufferBytes);
        AmxShape shape = format == ByteFormat.Planes ? AmxShape.Planes : rows > AmxTile.TileRows ? AmxShape.High : AmxShape.Low;
        int most = shape == AmxShape.Planes ? AmxTile.TileRows : MostRows;
        nint code = Tiles[(Shapes * (int)tile.Form) + (int)shape].Value.Address;
        fixed (byte* configs = Configs)
        {
            for (int row = 0; row < rows; row += most)
            {
                int count = Math.Min(most, rows - row);
                Fill(block, tile);
                block[(int)TileArgument.X] += row * tile.XStride;
                block[(int)TileArgument.Sums] += row * tile.SumStride * sizeof(int);
                block[(int)TileArgument.XScales] += row * sizeof(float);
                block[(int)TileArgument.Y] += row * tile.YStride * sizeof(float);
                block[(int)TileArgument.Rows] = count;
                block[(int)TileArgument.XSkip] = tile.XSkip;
                block[(int)TileArgument.Buffer] = (nint)buffer;
                block[(int)TileArgument.TileConfig] = (nint)(configs + ((count - 1) * ConfigBytes));

                // Some microseconds at most: a collection waits that long, and every call saves the transition.
                ((delegate* unmanaged[SuppressGCTransition]<nint*, void>)code)(block);
            }
        }
    }

    /// <summary>What LDTILECFG reads for 1 to 32 rows of x.</summary>
    internal static ReadOnlySpan<byte> Config(int rows) => Configs.AsSpan((rows - 1) * ConfigBytes, ConfigBytes);

    private static ExecutableMemory Create(int kind)
    {
        Assembler code = new();
        new AmxTile(code, (AmxShape)(kind % Shapes), (MachineOffsets)(kind / Shapes)).Emit();
        return ExecutableMemory.TryCreate(code.ToCode(), out string? why) ?? throw new OutOfMemoryException(why);
    }

    /// <summary>The 64 bytes that LDTILECFG reads, for 1 to 32 rows of x: palette 1, bytes of a row of each tile, rows of each tile.</summary>
    private static byte[] CreateConfigs()
    {
        byte[] configs = new byte[2 * AmxTile.TileRows * ConfigBytes];
        for (int rows = 1; rows <= 2 * AmxTile.TileRows; rows++)
        {
            Span<byte> config = configs.AsSpan((rows - 1) * ConfigBytes, ConfigBytes);
            int upper = Math.Min(rows, AmxTile.TileRows), lower = rows - upper;

            // Sums 0 and 1 and x of the upper rows, sums 2 and 3 and x of the lower ones (or of a second plane), codes.
            int low = lower == 0 ? upper : lower;
            int[] tileRows = [upper, upper, low, low, upper, low, AmxTile.TileRows, AmxTile.TileRows];
            config[0] = 1;
            for (int tile = 0; tile < tileRows.Length; tile++)
            {
                config[16 + (2 * tile)] = AmxTile.TileBytes;
                config[48 + tile] = (byte)tileRows[tile];
            }
        }

        return configs;
    }
}
