using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.BFloat16;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>BF16 products of 512-bit vectors in emitted code. Their order of sums is one of their own: see <see cref="VdpBFloat16Tile"/>.</summary>
internal sealed unsafe class VdpBFloat16Kernels : BFloat16Kernels
{
    private static readonly int[] Starts = new int[VdpBFloat16Tile.MostRows];

    private static readonly Lazy<ExecutableMemory> Code = new(Create);

    public override string Name => "vdpbf16ps";

    [SkipLocalsInit]
    public override void Run(in BFloat16Tile tile)
    {
        nint* block = stackalloc nint[CallFrame.ByteLength / sizeof(nint)];
        nint first = Code.Value.Address;
        for (nint row = 0; row < tile.Rows; row += VdpBFloat16Tile.MostRows)
        {
            AmxBFloat16Kernels.Fill(block, tile, row);
            nint code = first + Starts[nint.Min(VdpBFloat16Tile.MostRows, tile.Rows - row) - 1];
            ((delegate* unmanaged[SuppressGCTransition]<nint*, void>)code)(block);
        }
    }

    private static ExecutableMemory Create()
    {
        Assembler code = new();
        for (int rows = 1; rows <= VdpBFloat16Tile.MostRows; rows++)
        {
            code.Align();
            Starts[rows - 1] = code.Length;
            new VdpBFloat16Tile(code, rows).Emit();
        }

        return ExecutableMemory.TryCreate(code.ToCode(), out string? why) ?? throw new OutOfMemoryException(why);
    }
}
