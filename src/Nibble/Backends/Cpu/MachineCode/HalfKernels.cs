using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>The emitted tiles of few rows of x and F16 weights (<see cref="HalfTile"/>), made when first needed.</summary>
internal static unsafe class HalfKernels
{
    private const int MostRows = 6;

    // Where the tile of so many rows begins.
    private static readonly int[] Starts = new int[MostRows + 1];

    private static readonly Lazy<ExecutableMemory> Code = new(Create);

    private static readonly Lazy<NativeStorage> Order = new(CopyOrder);

    /// <summary>Runs the tile of so many rows and panels, whole ones, and returns true; false if there is none.</summary>
    [SkipLocalsInit]
    public static bool TryRun(int rows, int panels, in Tile tile)
    {
        if (rows is not (1 or 2 or 4 or MostRows) || panels != PanelsOf(rows))
        {
            return false;
        }

        nint* block = stackalloc nint[CallFrame.ByteLength / sizeof(nint)];
        block[(int)TileArgument.Words] = (nint)tile.B;
        block[(int)TileArgument.X] = (nint)tile.A;
        block[(int)TileArgument.XStride] = tile.PanelBytes;
        block[(int)TileArgument.GroupSteps] = tile.Depth;
        block[(int)TileArgument.Start] = (nint)tile.Start;
        block[(int)TileArgument.StartStride] = tile.StartStride * sizeof(float);
        block[(int)TileArgument.Y] = (nint)tile.C;
        block[(int)TileArgument.YStride] = tile.CStride * sizeof(float);
        block[(int)TileArgument.Buffer] = (nint)Order.Value.Pointer;
        nint code = Code.Value.Address + Starts[rows];

        // Some microseconds at most: a collection waits that long, and every call saves the transition.
        ((delegate* unmanaged[SuppressGCTransition]<nint*, void>)code)(block);
        return true;
    }

    // As Gemm chooses them for 512 bits.
    private static int PanelsOf(int rows) => rows == 1 ? 4 : 2;

    private static NativeStorage CopyOrder()
    {
        NativeStorage storage = new(HalfTile.FeatureOrder.Length * sizeof(int));
        HalfTile.FeatureOrder.CopyTo(new Span<int>(storage.Pointer, HalfTile.FeatureOrder.Length));
        return storage;
    }

    private static ExecutableMemory Create()
    {
        Assembler code = new();
        foreach (int rows in new[] { 1, 2, 4, MostRows })
        {
            code.Align();
            Starts[rows] = code.Length;
            new HalfTile(code, rows, PanelsOf(rows)).Emit();
        }

        return ExecutableMemory.TryCreate(code.ToCode(), out string? why) ?? throw new OutOfMemoryException(why);
    }
}
