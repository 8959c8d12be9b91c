using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>y[r] = row ids[r] of a table: the embedding.</summary>
public static class Gather
{
    /// <summary>ids I32 <c>[rows]</c>, y <c>[rows, in]</c>.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit, or an id is not a row of the table.</exception>
    public static void Forward(IBackend backend, IPackedWeight table, Tensor ids, Tensor y)
    {
        Check.Indices("gather", "ids", ids, ids.Shape.Count);
        Check.Matrix("gather", "y", y, ids.Shape.Count, table.In);
        Check.Range("gather", "ids", ids, 0, table.Out);
        backend.Kernels.Gather(table, ids, y);
    }

    /// <summary>The same for the rows whose id is not −1; the others keep what they hold.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit, or an id is neither −1 nor a row of the table.</exception>
    public static void Some(IBackend backend, IPackedWeight table, Tensor ids, Tensor y)
    {
        Check.Indices("gather", "ids", ids, ids.Shape.Count);
        Check.Matrix("gather", "y", y, ids.Shape.Count, table.In);
        Check.Range("gather", "ids", ids, -1, table.Out);
        backend.Kernels.GatherSome(table, ids, y);
    }

    /// <summary>The definition; table is F32 <c>[out, in]</c>.</summary>
    internal static void Reference(Tensor table, Tensor ids, Tensor y)
    {
        int row = 0;
        foreach (int id in ids.HostSpan<int>())
        {
            table.Slice(id, 1).HostSpan<float>().CopyTo(y.HostSpan<float>()[(row++ * (int)table.Shape[1])..]);
        }
    }
}
