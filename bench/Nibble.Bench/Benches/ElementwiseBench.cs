using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>Norms and activations over 512 rows of 1024.</summary>
internal static class ElementwiseBench
{
    public static void Run(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        using Tensor x = Tensor.OnHost(new Shape(512, 1024), DType.F32), y = Tensor.OnHost(x.Shape, DType.F32);
        using Tensor weight = Tensor.OnHost(new Shape(1024), DType.F32);
        Random random = new(1);
        foreach (ref float value in x.HostSpan<float>())
        {
            value = (float)((4 * random.NextDouble()) - 2);
        }

        (string Name, Action Body)[] kernels =
        [
            ("add", () => Add.Forward(backend, x, y)),
            ("rmsnorm", () => RmsNorm.Forward(backend, x, weight, 1e-5f, y)),
            ("layernorm", () => LayerNorm.Forward(backend, x, weight, weight, 1e-5f, y)),
            ("gelu exact", () => Gelu.Forward(backend, x, GeluKind.Exact, y)),
            ("gelu tanh", () => Gelu.Forward(backend, x, GeluKind.Tanh, y)),
            ("swiglu", () => SwiGlu.Forward(backend, x, x, y)),
            ("softmax", () => Softmax.Forward(backend, y)),
        ];
        double[][] times = Clock.Rounds(options.Rounds, [.. kernels.Select(k => k.Body)]);
        foreach (((string name, _), double[] rounds) in kernels.Zip(times))
        {
            report.Add($"{name}, {backend.KernelVariant}", [.. rounds.Select(t => t / x.Shape.Count * 1e9)], "ns/elem");
        }
    }
}
