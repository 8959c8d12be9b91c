using Nibble.Tensors;

namespace Nibble.Tests;

public class ShapeTests
{
    [Fact]
    public void RowsAndColumnsSplitAtTheLastDimension()
    {
        Shape shape = new(2, 3, 5);
        Assert.Equal(6, shape.Rows);
        Assert.Equal(5, shape.Columns);
        Assert.Equal(30, shape.Count);
        Assert.Equal("[2, 3, 5]", shape.ToString());
    }

    [Fact]
    public void AProductThatOverflowsIsRefused() =>
        Assert.Throws<OverflowException>(() => new Shape(nint.MaxValue, 2));

    [Fact]
    public void TheDefaultShapeIsAScalar()
    {
        Shape scalar = new();
        Assert.Equal(1, scalar.Count);
        Assert.Equal(new Shape(ReadOnlySpan<nint>.Empty), scalar);
    }
}
