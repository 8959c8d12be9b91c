using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>y += x: the residual connection.</summary>
public static class Add
{
    /// <summary>Elementwise, into y.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor x, Tensor y)
    {
        Check.Float("add", "x", x, backend);
        Check.SameShape("add", "x", x, "y", y, backend);
        backend.Kernels.Add(x, y);
    }

    /// <summary>The definition.</summary>
    internal static void Reference(Tensor x, Tensor y)
    {
        Span<float> source = x.HostSpan<float>(), destination = y.HostSpan<float>();
        for (int i = 0; i < source.Length; i++)
        {
            destination[i] += source[i];
        }
    }
}
