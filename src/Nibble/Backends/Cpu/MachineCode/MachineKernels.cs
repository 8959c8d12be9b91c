using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.Packings;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Products of decoded codes with int8 activations through emitted code: 512-bit vpdpbusd and vpdpwssd, which .NET 10 has at 256 bits only.
/// Results have the bits of the C# kernels. Functions are emitted when first needed and stay for the life of the process.
/// </summary>
internal sealed unsafe class MachineKernels : ByteKernels
{
    private const int Lanes = 32;

    // −32768 … 32767 holds Σ x of as many columns (127 each): see MachineOffsets.WholeShort.
    private const int MostShortColumns = 256;

    private static readonly Lazy<ExecutableMemory>[] Tiles = [.. Enumerable.Range(0, 8).Select(kind => new Lazy<ExecutableMemory>(() => Create(kind)))];

    private static readonly int[] Starts = new int[8 * VnniTile.MostRows];

    public override int StripLanes => Lanes;

    public override ByteFormat Decoded(ByteFormat format) => format == ByteFormat.Levels ? ByteFormat.Words : ByteFormat.Bytes;

    public override int Rows(nint left, bool isDecoded) =>
        (int)(left >= 2 * VnniTile.MostRows ? VnniTile.MostRows : left > VnniTile.MostRows ? (left + 1) / 2 : left);

    public override nint DecodedWords(ByteFormat format, nint chunks, nint groups) =>
        (groups * Lanes) + (format == ByteFormat.Bits8 ? 0 : base.DecodedWords(format, chunks, groups));

    public override void Decode(ByteFormat format, ByteOffsets offsets, ref ByteTile tile, uint* target)
    {
        if (offsets == ByteOffsets.Whole)
        {
            uint* whole = target;
            target += tile.Groups * Lanes;
            WriteOffsets(tile, IsShort(format, tile), (int*)whole);
            tile.Offsets = (float*)whole;
        }

        // 8-bit codes stand in memory as the tile reads them.
        if (format != ByteFormat.Bits8)
        {
            DecodedStrip<Vector512<float>, Bytes512, Vector512<byte>>.Write(format, ref tile, target);
        }
    }

    public override void Run(ByteFormat format, ByteOffsets offsets, int rows, in ByteTile tile)
    {
        bool isWords = format == ByteFormat.Words;
        MachineOffsets form = offsets switch
        {
            ByteOffsets.Real => MachineOffsets.Real,
            ByteOffsets.Bias => MachineOffsets.Bias,
            _ => IsShort(format, tile) ? MachineOffsets.WholeShort : MachineOffsets.Whole,
        };
        int kind = (2 * (int)form) + (isWords ? 1 : 0);
        nint code = Tiles[kind].Value.Address + Starts[(kind * VnniTile.MostRows) + rows - 1];
        nint* block = stackalloc nint[CallFrame.ByteLength / sizeof(nint)];
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

        // Some microseconds at most: a collection waits that long, and every call saves the transition.
        ((delegate* unmanaged[SuppressGCTransition]<nint*, void>)code)(block);
    }

    private static bool IsShort(ByteFormat format, in ByteTile tile) =>
        nint.Max(tile.GroupChunks, tile.LastChunks) * ColumnsPerChunk(format) <= MostShortColumns;

    private static int ColumnsPerChunk(ByteFormat format) => format switch
    {
        ByteFormat.Bits2 => 16,
        ByteFormat.Bits3 => 32,
        ByteFormat.Bits4 or ByteFormat.Levels => 8,
        ByteFormat.Words => 2,
        _ => 4,
    };

    /// <summary>Offsets as the tile wants them: see <see cref="MachineOffsets"/>.</summary>
    private static void WriteOffsets(in ByteTile tile, bool isShort, int* target)
    {
        nint count = tile.OffsetStride == 0 ? Lanes : tile.Groups * Lanes;
        for (nint i = 0; i < count; i += Vector512<int>.Count)
        {
            Vector512<int> offset = Vector512.ConvertToInt32(Vector512.Load(tile.Offsets + i));
            (isShort ? -offset & Vector512.Create(0xffff) : offset).Store(target + i);
        }
    }

    private static ExecutableMemory Create(int kind) =>
        ExecutableMemory.TryCreate(Emit(kind), out string? why) ?? throw new OutOfMemoryException(why);

    private static byte[] Emit(int kind)
    {
        Assembler code = new();
        for (int rows = 1; rows <= VnniTile.MostRows; rows++)
        {
            code.Align();
            Starts[(kind * VnniTile.MostRows) + rows - 1] = code.Length;
            new VnniTile(code, rows, (MachineOffsets)(kind / 2), isWords: kind % 2 != 0).Emit();
        }

        return code.ToCode();
    }
}
