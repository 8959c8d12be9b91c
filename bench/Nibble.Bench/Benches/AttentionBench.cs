using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>Attention of a prompt (operations per second) and of one new token (bytes of cache per second).</summary>
internal static class AttentionBench
{
    public static void Run(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        foreach ((int length, int start, int heads, int kvHeads, int dim) in new[]
        {
            (512, 0, 8, 8, 32), (512, 0, 12, 12, 64), (2048, 0, 8, 2, 128), (1, 511, 8, 8, 32), (1, 2047, 12, 12, 64), (1, 4095, 32, 8, 128),
        })
        {
            using Tensor query = Tensor.OnHost(new Shape(length, heads, dim), DType.F32), output = Tensor.OnHost(query.Shape, DType.F32);
            using Tensor keys = Tensor.OnHost(new Shape(1, kvHeads, start + length, dim), DType.F32);
            using Tensor values = Tensor.OnHost(keys.Shape, DType.F32);
            AttentionArguments arguments = new(query, keys, values, output, 1, length, start, null, 0.1f, 0);
            double[] times = Clock.Rounds(options.Rounds, () => Attention.Forward(backend, arguments))[0];
            string name = $"length {length} after {start}, {heads}/{kvHeads} heads of {dim}";
            double visible = (length * (double)start) + (length * (length + 1.0) / 2);
            report.Add(name, [.. times.Select(t => 4 * visible * heads * dim / t * 1e-9)], "GFLOP/s");
            report.Add(name, [.. times.Select(t => t * 1e6)], "µs");
        }
    }
}
