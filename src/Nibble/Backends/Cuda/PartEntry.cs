using System.Runtime.InteropServices;

namespace Nibble.Backends.Cuda;

/// <summary>What a block takes of many tensors in one launch, from an element of a tensor on: <c>PartEntry</c> of <c>common.cuh</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct PartEntry(long Begin, int Tensor, int Unused = 0)
{
    /// <summary>Elements of a part, PART_ELEMENTS of common.cuh.</summary>
    public const long Elements = 16384;
}
