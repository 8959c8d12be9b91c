using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>Some columns of a matrix as a matrix of their own: splits a fused projection.</summary>
public static class CopyColumns
{
    /// <summary>y = columns first … first + columns(y) − 1 of x.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor x, nint first, Tensor y)
    {
        Check.Float("copy columns", "x", x, backend);
        Check.Matrix("copy columns", "y", y, x.Shape.Rows, y.Shape.Columns, backend);
        if (first < 0 || first + y.Shape.Columns > x.Shape.Columns)
        {
            Throw.Argument("copy columns", $"columns {first} to {first + y.Shape.Columns} of x {x.Shape}");
        }

        backend.Kernels.CopyColumns(x, first, y);
    }

    /// <summary>The definition.</summary>
    internal static void Reference(Tensor x, nint first, Tensor y)
    {
        int columns = (int)y.Shape.Columns, stride = (int)x.Shape.Columns;
        for (int row = 0; row < (int)x.Shape.Rows; row++)
        {
            x.HostSpan<float>().Slice((row * stride) + (int)first, columns).CopyTo(y.HostSpan<float>()[(row * columns)..]);
        }
    }
}
