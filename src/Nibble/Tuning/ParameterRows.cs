using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Parameters and what belongs to them, in the order in which files hold them: the same on every backend.</summary>
internal static class ParameterRows
{
    /// <summary>Numbers of a parameter (its values, gradient or a moment) on the host, in row order; the caller disposes it.</summary>
    public static Tensor Read(IBackend backend, Parameter parameter, Tensor values)
    {
        Tensor host = Tensor.OnHost(parameter.Shape, DType.F32);
        if (parameter.Weight is null)
        {
            backend.Read<float>(values, host.HostSpan<float>());
            return host;
        }

        using Tensor rows = backend.Allocate(parameter.Shape, DType.F32);
        backend.Gradients.ToRows(parameter.Weight, values, rows);
        backend.Read<float>(rows, host.HostSpan<float>());
        return host;
    }

    /// <summary>The inverse of <see cref="Read"/>.</summary>
    public static void Write(IBackend backend, Parameter parameter, Tensor host, Tensor values)
    {
        if (parameter.Weight is null)
        {
            backend.Write<float>(host.HostSpan<float>(), values);
            return;
        }

        using Tensor rows = host.Upload(backend);
        backend.Gradients.FromRows(parameter.Weight, rows, values);
    }

    /// <summary>A matrix of any packing as F32 rows on the host; the caller disposes it.</summary>
    public static Tensor Dense(IBackend backend, IPackedWeight weight)
    {
        Tensor host = Tensor.OnHost(new Shape(weight.Out, weight.In), DType.F32);
        using Tensor ids = backend.Allocate(new Shape(weight.Out), DType.I32);
        backend.Write<int>([.. Enumerable.Range(0, (int)weight.Out)], ids);
        using Tensor rows = backend.Allocate(host.Shape, DType.F32);
        backend.Kernels.Gather(weight, ids, rows);
        backend.Read<float>(rows, host.HostSpan<float>());
        return host;
    }
}
