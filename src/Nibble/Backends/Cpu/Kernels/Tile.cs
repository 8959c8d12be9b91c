namespace Nibble.Backends.Cpu.Kernels;

/// <summary>Arguments of one inner kernel of a matrix product.</summary>
internal unsafe struct Tile
{
    /// <summary>Steps of k.</summary>
    public nint Depth;

    /// <summary>x: <c>A[k·AStep + row]</c>, or <c>A[row·AStep + k]</c> for the strided kernels.</summary>
    public float* A;

    /// <summary>Floats from one step of k (strided kernels: from one row) to the next.</summary>
    public nint AStep;

    /// <summary>The first panel: two vectors of weights per step of k.</summary>
    public byte* B;

    /// <summary>Bytes from one step of k to the next.</summary>
    public nint BStep;

    /// <summary>Bytes from one panel to the next.</summary>
    public nint PanelBytes;

    /// <summary>The result, row-major.</summary>
    public float* C;

    /// <summary>Floats between rows of the result.</summary>
    public nint CStride;

    /// <summary>What is added at the end: the result of earlier steps of k, the bias, or null.</summary>
    public float* Start;

    /// <summary>Floats between rows of <see cref="Start"/>; 0 for a bias.</summary>
    public nint StartStride;
}
