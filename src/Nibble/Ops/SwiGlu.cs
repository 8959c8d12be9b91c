using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>y = silu(gate)·up (arXiv 2002.05202, SwiGLU without its matrices).</summary>
public static class SwiGlu
{
    /// <summary>Elementwise; y may be gate.</summary>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static void Forward(IBackend backend, Tensor gate, Tensor up, Tensor y)
    {
        Check.Float("swiglu", "gate", gate, backend);
        Check.Same("swiglu", "gate", gate, "up", up);
        Check.Same("swiglu", "gate", gate, "y", y);
        backend.Kernels.SwiGlu(gate, up, y);
    }

    /// <summary>The definition, in double precision.</summary>
    internal static void Reference(Tensor gate, Tensor up, Tensor y)
    {
        Span<float> gates = gate.HostSpan<float>(), ups = up.HostSpan<float>(), destination = y.HostSpan<float>();
        for (int i = 0; i < gates.Length; i++)
        {
            destination[i] = (float)(gates[i] / (1 + Math.Exp(-(double)gates[i])) * ups[i]);
        }
    }
}
