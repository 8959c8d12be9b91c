using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>y = relu(gate)²·up: the MLP of BitNet b1.58 2B4T (arXiv 2504.12285, section 2).</summary>
public static class SquaredReluGate
{
    /// <summary>Elementwise; y may be gate.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor gate, Tensor up, Tensor y)
    {
        Check.Float("squared relu gate", "gate", gate, backend);
        Check.Same("squared relu gate", "gate", gate, "up", up);
        Check.Same("squared relu gate", "gate", gate, "y", y);
        backend.Kernels.SquaredReluGate(gate, up, y);
    }

    /// <summary>The definition, in double precision.</summary>
    internal static void Reference(Tensor gate, Tensor up, Tensor y)
    {
        Span<float> gates = gate.HostSpan<float>(), ups = up.HostSpan<float>(), destination = y.HostSpan<float>();
        for (int i = 0; i < gates.Length; i++)
        {
            double positive = gates[i] < 0 ? 0 : gates[i];
            destination[i] = (float)(positive * positive * ups[i]);
        }
    }
}
