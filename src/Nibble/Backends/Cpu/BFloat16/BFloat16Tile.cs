namespace Nibble.Backends.Cpu.BFloat16;

/// <summary>Rows of A times one panel of B, both in BF16 (see <see cref="BFloat16Layout"/>), sums in F32.</summary>
internal unsafe struct BFloat16Tile
{
    /// <summary>Tiles of 16 rows; the first row is the first of a tile.</summary>
    public ushort* A;

    /// <summary>Elements from one tile of 16 rows to the next.</summary>
    public nint TileStride;

    /// <summary>Pairs of a panel.</summary>
    public uint* B;

    /// <summary>Steps of 32 elements, at least 1.</summary>
    public nint Steps;

    /// <summary>Rows of A and C.</summary>
    public nint Rows;

    /// <summary>What the sums start at, floats between its rows (0: one row for all).</summary>
    public float* Start;
    public nint StartStride;

    /// <summary>Rows of a whole panel's width. May be the start itself.</summary>
    public float* C;
    public nint CStride;
}

/// <summary>
/// Kernels of BF16 products. <b>Order of the sums</b>, of all but <see cref="MachineCode.VdpBFloat16Kernels"/>: of each step of 32 elements the products of
/// even places and those of odd ones are added up apart, by fused multiply-adds from 0; then the sum of the two is added to what was there.
/// That is what tdpbf16ps does (Intel SDM, volume 2). A product of two BF16 numbers is exact in F32, so that fusing changes nothing, and all
/// kernels have the same bits, but that tiles take results below 2^−126 as 0.
/// </summary>
internal abstract class BFloat16Kernels
{
    /// <summary>Products of fewer rows stay in F32: they read weights, and rounding those would take as long as the product.</summary>
    public const int FewestRows = 32;

    /// <summary>Name of the instructions, for reports.</summary>
    public abstract string Name { get; }

    /// <summary>C = Start + A·B.</summary>
    public abstract void Run(in BFloat16Tile tile);
}
