using Nibble.Tensors;

namespace Nibble.Nn;

/// <summary>Columns of a matrix of activations as a matrix of its own.</summary>
internal static class Columns
{
    /// <summary>Columns first … first + count − 1 of x <c>[rows, columns]</c>: a view if there is one row, else a rented copy.</summary>
    public static Tensor Take(Tensor x, nint first, nint count, in Pass pass)
    {
        if (x.Shape.Rows == 1)
        {
            return x.Reshape(new Shape(x.Shape.Columns)).Slice(first, count).Reshape(new Shape(1, count));
        }

        Tensor part = pass.Rent(new Shape(x.Shape.Rows, count));
        Ops.CopyColumns.Forward(pass.Backend, x, first, part);
        return part;
    }
}
