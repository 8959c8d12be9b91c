using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Nibble.Backends.Cpu.Packings;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Products of decoded codes with int8 activations through emitted code: 512-bit vpdpbusd and vpdpwssd, which .NET 10 has at 256 bits only.
/// Results have the bits of the C# kernels. Functions are emitted when first needed and stay for the life of the process.
/// </summary>
internal sealed unsafe class VnniKernels : MachineKernels
{
    // Each kind of offsets, for bytes and for 16-bit numbers.
    private const int Kinds = 8;

    private static readonly Lazy<ExecutableMemory>[] Tiles = [.. Enumerable.Range(0, Kinds).Select(kind => new Lazy<ExecutableMemory>(() => Create(kind)))];

    private static readonly int[] Starts = new int[Kinds * VnniTile.MostRows];

    public override ByteFormat Decoded(ByteFormat format) => format == ByteFormat.Levels ? ByteFormat.Words : ByteFormat.Bytes;

    public override int MostRows => VnniTile.MostRows;

    public override int Rows(nint left, bool isDecoded) =>
        (int)(left >= 2 * VnniTile.MostRows ? VnniTile.MostRows : left > VnniTile.MostRows ? (left + 1) / 2 : left);

    public override nint DecodedWords(ByteFormat format, nint chunks, nint groups) =>
        (groups * Lanes) + (format == ByteFormat.Bits8 ? 0 : base.DecodedWords(format, chunks, groups));

    public override void Decode(ByteFormat format, ByteOffsets offsets, ref ByteTile tile, uint* target)
    {
        tile.Form = Form(offsets, tile, ColumnsPerChunk(format));
        target += WriteOffsets(ref tile, (int*)target);

        // 8-bit codes stand in memory as the tile reads them.
        if (format != ByteFormat.Bits8)
        {
            DecodedStrip<Vector512<float>, Bytes512, Vector512<byte>>.Write(format, ref tile, target);
        }
    }

    [SkipLocalsInit]
    public override void Run(ByteFormat format, ByteOffsets offsets, int rows, in ByteTile tile)
    {
        int kind = (2 * (int)tile.Form) + (format == ByteFormat.Words ? 1 : 0);
        nint code = Tiles[kind].Value.Address + Starts[(kind * VnniTile.MostRows) + rows - 1];
        nint* block = stackalloc nint[CallFrame.ByteLength / sizeof(nint)];
        Fill(block, tile);

        // Some microseconds at most: a collection waits that long, and every call saves the transition.
        ((delegate* unmanaged[SuppressGCTransition]<nint*, void>)code)(block);
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
