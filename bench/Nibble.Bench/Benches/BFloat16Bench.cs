using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>y = x·Wᵀ and its two gradients in F32 and in BF16 by each variant that has kernels of its own, in the same rounds. Conversion and packing count.</summary>
internal static class BFloat16Bench
{
    // rows, out, in: a training of 10 M parameters (forward products and the head), a prompt through GPT-2 124 M and LLaMA 1.1 B.
    private static readonly (int Rows, int Out, int In)[] Sizes = [(2048, 960, 320), (2048, 1280, 320), (2048, 320, 1280), (1024, 8192, 320), (512, 3072, 768), (512, 2048, 2048), (512, 5632, 2048)];

    public static void Run(BenchOptions options, BenchReport report)
    {
        int threads = CpuThreads.Choose(options.Threads);
        List<CpuBackend> backends = [options.CreateBackend()];
        string[] names = [.. CpuVariant.All.Where(v => v.Isa == CpuIsa.Avx512 && v.IsSupported).Select(v => v.Name)];
        backends.AddRange(names.Length == 0 ? [options.CreateBackend(DType.BF16)] : names.Select(name => new CpuBackend(new CpuOptions(threads, name, DType.BF16))));
        foreach ((int rows, int outs, int ins) in Sizes)
        {
            Product(options, report, backends, (rows, outs, ins));
        }

        backends.ForEach(backend => backend.Dispose());
    }

    private static void Product(BenchOptions options, BenchReport report, List<CpuBackend> backends, (int Rows, int Out, int In) size)
    {
        using Tensor x = Random(size.Rows, size.In, 1), w = Random(size.Out, size.In, 2), dy = Random(size.Rows, size.Out, 3);
        using Tensor y = Random(size.Rows, size.Out, 4), dx = Random(size.Rows, size.In, 5), wide = Tensor.OnHost(new Shape((size.Out + 63) / 64 * 64, size.In), DType.F32);
        using Tensor half = w.To(DType.BF16);
        List<IPackedWeight> floats = [.. backends.Select(b => b.Prepare(w))], halves = [.. backends.Select(b => b.Prepare(half))];
        (string Name, Func<int, Action> Body)[] kinds =
        [
            ("y = x·Wᵀ, W BF16", i => () => MatMul.Forward(backends[i], x, halves[i], null, y)),
            ("y = x·Wᵀ, W F32", i => () => MatMul.Forward(backends[i], x, floats[i], null, y)),
            ("dx = dy·W, W F32", i => () => backends[i].Gradients.MatMulInputInto(dy, floats[i], dx)),
            ("dW += dyᵀ·x", i => () => backends[i].Gradients.MatMulWeight(dy, x, floats[i], wide)),
        ];
        double operations = 2.0 * size.Rows * size.Out * size.In;
        foreach ((string name, Func<int, Action> body) in kinds)
        {
            double[][] times = Clock.Rounds(options.Rounds, [.. Enumerable.Range(0, backends.Count).Select(body)]);
            for (int i = 0; i < backends.Count; i++)
            {
                string kernel = i == 0 ? $"F32, {backends[0].KernelVariant}" : $"BF16, {backends[i].KernelVariant}";
                report.Add(
                    $"{size.Rows}×{size.Out}×{size.In} {name}, {kernel}", [.. times[i].Select(t => operations / t * 1e-9)], "GFLOP/s",
                    i == 0 ? null : [.. times[0].Zip(times[i], (f, h) => f / h)], "F32");
            }
        }

        floats.Concat(halves).ToList().ForEach(weight => weight.Dispose());
    }

    private static Tensor Random(int rows, int columns, int seed)
    {
        Tensor tensor = Tensor.OnHost(new Shape(rows, columns), DType.F32);
        Random random = new(seed);
        foreach (ref float value in tensor.HostSpan<float>())
        {
            value = random.NextSingle() - 0.5f;
        }

        return tensor;
    }
}
