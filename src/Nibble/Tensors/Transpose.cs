using Nibble.IO;

namespace Nibble.Tensors;

/// <summary>The transpose of a matrix on the host, for checkpoints that store <c>[in, out]</c>.</summary>
public static unsafe class Transpose
{
    // 32 × 32 elements of source and target stay in the first-level cache together.
    private const nint Tile = 32;

    /// <summary>A new host tensor with the rows and columns of <paramref name="matrix"/> exchanged.</summary>
    public static Tensor Of(Tensor matrix)
    {
        if (matrix.Shape.Rank != 2)
        {
            Throw.Argument("transpose", $"a matrix is needed, not {matrix.Shape}");
        }

        Tensor result = Tensor.OnHost(new Shape(matrix.Shape[1], matrix.Shape[0]), matrix.DType);
        switch (matrix.DType.Size())
        {
            case 1:
                Copy(matrix.HostPointer, result.HostPointer, matrix.Shape);
                break;
            case 2:
                Copy((ushort*)matrix.HostPointer, (ushort*)result.HostPointer, matrix.Shape);
                break;
            case 4:
                Copy((uint*)matrix.HostPointer, (uint*)result.HostPointer, matrix.Shape);
                break;
            default:
                Copy((ulong*)matrix.HostPointer, (ulong*)result.HostPointer, matrix.Shape);
                break;
        }

        GC.KeepAlive(matrix);
        return result;
    }

    private static void Copy<T>(T* source, T* target, Shape shape)
        where T : unmanaged
    {
        nint rows = shape[0], columns = shape[1];
        for (nint row = 0; row < rows; row += Tile)
        {
            for (nint column = 0; column < columns; column += Tile)
            {
                nint lastRow = nint.Min(rows, row + Tile), lastColumn = nint.Min(columns, column + Tile);
                for (nint c = column; c < lastColumn; c++)
                {
                    for (nint r = row; r < lastRow; r++)
                    {
                        target[(c * rows) + r] = source[(r * columns) + c];
                    }
                }
            }
        }
    }
}
