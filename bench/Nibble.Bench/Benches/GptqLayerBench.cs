using Nibble.Backends.Cpu;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>What GPTQ costs for one layer of LLaMA-7B: 2,048 tokens of the Gram matrix, the factorization, the solve; against the multiply-add peak.</summary>
internal static class GptqLayerBench
{
    private const int Tokens = 2048, Group = 128, Levels = 15;

    private static readonly (int Out, int In)[] Layers = [(4096, 4096), (11008, 4096), (4096, 11008)];

    public static void Run(BenchOptions options, BenchReport report)
    {
        using CpuBackend backend = options.CreateBackend();
        CpuVariant variant = CpuVariant.All.First(v => v.Name == backend.KernelVariant);
        CpuThreads threads = CpuThreads.Shared(backend.Threads);
        double peak = MachineLimits.PeakOperations(variant, backend.Threads);
        foreach (int columns in Layers.Select(layer => layer.In).Distinct())
        {
            double[] gram = new double[(long)columns * columns];
            using Tensor x = Inputs(columns);
            // A symmetric update is half of a product: columns² multiply-adds a token, both triangles counted once.
            Share(report, $"Gram, {Tokens} tokens × {columns}", (double)Tokens * columns * (columns + 1), () => backend.Kernels.AddGram(x, gram), () => MachineLimits.RunPeak(variant, threads), peak);
            float[] factor = Factor(report, gram, columns, threads, () => MachineLimits.RunPeak(variant, threads), peak);
            foreach ((int rows, int _) in Layers.Where(layer => layer.In == columns))
            {
                float[] weights = [.. Enumerable.Range(0, rows * columns).Select(i => MathF.Sin(i))];
                byte[] codes = new byte[weights.Length];
                GroupRounder rounder = new(rows, columns, Group, values => new Grid(2f / Levels, 7.5f, Levels));
                Share(
                    report, $"solve {rows} × {columns}", (double)rows * columns * columns,
                    () => new GptqSolver(factor, columns).Solve(weights, rows, codes, rounder, threads), () => MachineLimits.RunPeak(variant, threads), peak);
            }
        }
    }

    private static Tensor Inputs(int columns)
    {
        Tensor x = Tensor.OnHost(new Shape(Tokens, columns), DType.F32);
        Random random = new(1);
        foreach (ref float value in x.HostSpan<float>())
        {
            value = random.NextSingle() - 0.5f;
        }

        return x;
    }

    private static float[] Factor(BenchReport report, double[] gram, int columns, CpuThreads threads, Action reference, double peak)
    {
        for (int i = 0; i < columns; i++)
        {
            for (int j = 0; j < i; j++)
            {
                gram[((long)j * columns) + i] = gram[((long)i * columns) + j];
            }
        }

        // A factorization and a triangular inverse, columns³/3 multiply-adds together.
        double operations = 2.0 / 3 * columns * columns * columns;
        GramStatistics statistics = new(Tokens, columns, gram);
        int[] order = [.. Enumerable.Range(0, columns)];
        float[]? factor = null;
        Share(report, $"factor {columns}", operations, () => factor = DampedHessian.InSingle(statistics, order, Tokens * 0.05, threads), reference, peak);
        return factor ?? throw new InvalidOperationException("the Hessian of random inputs could not be factored in single precision");
    }

    // Once only: seconds at these sizes.
    private static void Share(BenchReport report, string name, double operations, Action body, Action reference, double peak)
    {
        double limit = Clock.Time(reference);
        double seconds = Clock.Time(body, seconds: 0);
        report.Add(name, [seconds], "s", [operations / seconds / (peak / limit)], "the multiply-add peak");
    }
}
