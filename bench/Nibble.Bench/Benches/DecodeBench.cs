using System.Diagnostics;
using System.Text;
using Nibble.Backends.Cpu;
using Nibble.Benchmarks;
using Nibble.Formats;
using Nibble.Generation;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>Tokens per second of a whole model: a prompt in one pass, then one token at a time, without the time to choose it.</summary>
internal static class DecodeBench
{
    private const int Prompt = 256;
    private const int NewTokens = 128;

    // The embedded GPT-2: 10 layers of 256, vocabulary 8192.
    private const string DefaultConfig =
        """{"model_type":"gpt2","vocab_size":8192,"n_positions":512,"n_embd":256,"n_layer":10,"n_head":4,"activation_function":"gelu_new"}""";

    public static void Run(BenchOptions options, BenchReport report)
    {
        foreach (DType dtype in new[] { DType.F32, DType.BF16 })
        {
            using CpuBackend backend = options.CreateBackend();
            using IWeightSource weights = Open(options.Model, dtype, out ModelConfig config);
            using CausalModel model = ModelBuilder.Build(config, weights, backend);
            string name = $"{model.Facts.ModelType} {model.ParameterCount / 1e6:F1} M {dtype.ToString().ToLowerInvariant()}";
            // As many bytes as the weights: a model that fits in the last-level cache is compared with reading from there.
            using Tensor data = RawRead.Memory((nint)model.WeightBytes);
            CpuThreads threads = CpuThreads.Shared(backend.Threads);
            (double Prefill, double Decode, double Read)[] rounds = [.. Enumerable.Range(0, options.Rounds + 1).Select(_ => Once(model, data, threads)).Skip(1)];
            double[] decode = [.. rounds.Select(round => round.Decode)];
            report.Add($"{name}, prompt of {Prompt}", [.. rounds.Select(round => round.Prefill)], "tok/s");
            report.Add($"{name}, decode", decode, "tok/s");
            report.Add(
                $"{name}, weights read",
                [.. decode.Select(rate => rate * data.ByteLength / 1e9)],
                "GB/s",
                [.. rounds.Select(round => round.Decode * data.ByteLength / round.Read)],
                "raw reading of as many bytes");
        }
    }

    private static (double Prefill, double Decode, double Read) Once(CausalModel model, Tensor data, CpuThreads threads)
    {
        int[] prompt = [.. Enumerable.Range(0, Prompt).Select(i => (i * 37) % model.Facts.Vocabulary)];
        using Generator generator = new(model, null, [], [prompt], new GenerationOptions { MaxTokens = NewTokens });
        long start = Stopwatch.GetTimestamp();
        int tokens = generator.Run().Count();
        double read = data.ByteLength / Clock.Time(() => RawRead.Run(data, threads), 0.1);
        return tokens == NewTokens
            ? (generator.Timings.PrefillTokensPerSecond, generator.Timings.DecodeTokensPerSecond, read)
            : throw new InvalidOperationException($"{tokens} tokens after {Stopwatch.GetElapsedTime(start)}");
    }

    private static IWeightSource Open(string? path, DType dtype, out ModelConfig config)
    {
        if (path is null)
        {
            config = ModelConfig.Parse(Encoding.UTF8.GetBytes(DefaultConfig), "embedded configuration");
            return new RandomWeights(config, Registry.Architecture(config), dtype);
        }

        HfFolder folder = HfFolder.Open(path);
        config = folder.Config;
        return new DenseWeightSource(folder, Registry.Architecture(config), dtype);
    }
}
