namespace Nibble.Backends.Cuda.Quantization;

/// <summary>How the grid of a group comes about; the values are those of <c>grids.cuh</c>.</summary>
internal enum CudaGridKind
{
    Asymmetric,
    Symmetric,
    Byte,
    Shifted,
    Int8,
    Given,
    Ternary,
    RealZero,
}
