using System.Diagnostics;

namespace Nibble.Tensors;

/// <summary>The extents of a tensor, outermost first; up to four dimensions, row-major, rank 0 is a scalar.</summary>
[DebuggerDisplay("{ToString()}")]
public readonly struct Shape : IEquatable<Shape>
{
    /// <summary>The largest rank that a shape can have.</summary>
    public const int MaxRank = 4;

    private readonly nint _d0, _d1, _d2, _d3, _count;

    /// <summary>Creates a shape; every extent must be ≥ 0 and the product must fit in a native integer.</summary>
    public Shape(params ReadOnlySpan<nint> extents)
    {
        if (extents.Length > MaxRank)
        {
            throw new ArgumentException($"shape: {extents.Length} dimensions, at most {MaxRank} are supported");
        }

        nint count = 1;
        foreach (nint extent in extents)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(extent);
            count = checked(count * extent);
        }

        Rank = extents.Length;
        _count = count;
        _d0 = Rank > 0 ? extents[0] : 0;
        _d1 = Rank > 1 ? extents[1] : 0;
        _d2 = Rank > 2 ? extents[2] : 0;
        _d3 = Rank > 3 ? extents[3] : 0;
    }

    /// <summary>Number of dimensions.</summary>
    public int Rank { get; }

    /// <summary>Number of elements; 1 for a scalar, which <c>default</c> is too.</summary>
    public nint Count => Rank == 0 ? 1 : _count;

    /// <summary>Extent of dimension <paramref name="dimension"/>; negative values count from the end.</summary>
    public nint this[int dimension] => (dimension < 0 ? dimension + Rank : dimension) switch
    {
        0 when Rank > 0 => _d0,
        1 when Rank > 1 => _d1,
        2 when Rank > 2 => _d2,
        3 when Rank > 3 => _d3,
        _ => throw new IndexOutOfRangeException($"dimension {dimension} of a shape of rank {Rank}"),
    };

    /// <summary>Product of all extents but the last: the number of rows of the matrix that the tensor is seen as.</summary>
    public nint Rows => Rank == 0 ? 1 : this[-1] == 0 ? 0 : Count / this[-1];

    /// <summary>The last extent: the length of a row; 1 for a scalar.</summary>
    public nint Columns => Rank == 0 ? 1 : this[-1];

    /// <summary>Compares two shapes.</summary>
    public static bool operator ==(Shape left, Shape right) => left.Equals(right);

    /// <summary>Compares two shapes.</summary>
    public static bool operator !=(Shape left, Shape right) => !left.Equals(right);

    /// <inheritdoc/>
    public bool Equals(Shape other) =>
        Rank == other.Rank && _d0 == other._d0 && _d1 == other._d1 && _d2 == other._d2 && _d3 == other._d3;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Shape other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Rank, _d0, _d1, _d2, _d3);

    /// <summary>The extents as an array, outermost first.</summary>
    public nint[] ToArray() => new[] { _d0, _d1, _d2, _d3 }[..Rank];

    /// <summary>For example <c>[2, 3]</c>.</summary>
    public override string ToString() => "[" + string.Join(", ", ToArray()) + "]";
}
