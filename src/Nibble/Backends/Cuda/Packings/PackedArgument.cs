using System.Runtime.InteropServices;

namespace Nibble.Backends.Cuda.Packings;

/// <summary>How numbers are stored; the values are those of <c>common.cuh</c>.</summary>
internal enum CudaNumber
{
    F32,
    F16,
    BF16,
    U8,
}

/// <summary>Which elements share a scale; the values are those of <c>packed.cuh</c>.</summary>
internal enum CudaGroups
{
    OfRow,
    Flat,
    Strided,
    Mapped,
}

/// <summary>What a kernel must know about a weight: the structure <c>Packed</c> of <c>packed.cuh</c>, field by field.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PackedArgument
{
    public nint Codes;
    public long TileWords;
    public long Rows;
    public long Columns;
    public nint Scales;
    public nint Offsets;
    public nint Levels;
    public nint Map;
    public nint NestedMap;
    public nint NestedScales;
    public long GroupsPerRow;
    public long Groups;
    public int GroupSize;
    public int GroupShift;
    public CudaGroups GroupMode;
    public CudaNumber ScaleType;
    public CudaNumber OffsetType;
    public float Offset;
    public float NestedOffset;
    public int NestedSize;
    public int BiasForm;
    public int NestedShift;
}
