using System.Diagnostics;
using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;
using Nibble.Benchmarks;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>
/// Whole models of true shapes on a card, in BF16. Weights are random, and matrices of one shape have the same values (each in memory of
/// its own): speed does not depend on them, but for LLM.int8, where each outlier column costs. "llm.int8" has few, as LLMs do: up to 6 of the input of
/// q, k, v, gate and up, hardly any of down's; "many outliers" has what plain random numbers give, most of them of down's.
/// </summary>
internal static class CudaModelBenches
{
    private const int Prompt = 512, Tokens = 128;

    private const int Outliers = 6, OutlierStep = 31;

    private static readonly WeightKind ManyOutliers = new("many outliers", WeightKind.All.First(kind => kind.Name == "affine8 row").Make);
    private static readonly WeightKind Int8 = new("llm.int8", (o, i) => Outlying((AffineWeight)ManyOutliers.Make!(o, i)));

    /// <summary>Tokens per second of a prompt and of decoding after it; --kernels chooses kinds of weights.</summary>
    public static void Run(BenchOptions options, BenchReport report) => Each(options, report, (model, name) => Measure(model, name, options.Rounds, report));

    /// <summary>Tokens per second of scoring: 8 texts of 1024 tokens in one pass, with the likelihood of every token.</summary>
    public static void Perplexity(BenchOptions options, BenchReport report) => Each(options, report, (model, name) => Score(model, name, options.Rounds, report));

    /// <summary>Tokens per second of decoding 1, 4, 16 and 32 texts at once, from an empty cache, over all texts.</summary>
    public static void Batches(BenchOptions options, BenchReport report) => Each(options, report, (model, name) =>
    {
        foreach (int batch in new[] { 1, 4, 8, 16, 32 })
        {
            using KvCache cache = new(model, batch, Prompt + Tokens);
            using Workspace workspace = new(model.Backend);
            report.Add($"decode {batch} × {Tokens} {name}", Decode(model, cache, workspace, options.Rounds), "tok/s");
        }
    });

    private static void Each(BenchOptions options, BenchReport report, Action<CausalModel, string> measure)
    {
        foreach (WeightKind kind in WeightKind.All.Where(kind => kind.Make is not null).Prepend(new WeightKind("bf16", null)).Append(Int8).Append(ManyOutliers)
            .Where(kind => options.Kernels is null ? kind.Name is "bf16" or "nf4 b64" or "affine8 g64" or "affine4 g64" : kind.Name.Contains(options.Kernels, StringComparison.Ordinal)))
        {
            using CudaDevice device = CudaDevice.Open(0);
            using ProfilingDevice? profile = options.ProcessorTime ? new ProfilingDevice(device) : null;
            using CudaBackend backend = new(profile ?? (ICudaDevice)device, DType.BF16);
            ModelConfig config = ModelShapes.Config("llama-7b");
            using SameWeights same = new(kind);
            using RandomWeights weights = new(config, Registry.Architecture(config), DType.BF16) { Quantize = same.Pack, Change = kind == Int8 ? Spike : null };
            long start = Stopwatch.GetTimestamp();
            using CausalModel model = ModelBuilder.Build(config, weights, backend);
            Console.Error.WriteLine($"{kind.Name}: built in {Stopwatch.GetElapsedTime(start).TotalSeconds:f0} s, {model.WeightBytes / 1e9:f2} GB of weights");
            measure(model, kind.Name);
            if (kind == Int8 || kind == ManyOutliers)
            {
                Console.Error.WriteLine(string.Join(", ", model.Blocks[model.Blocks.Count / 2].Linears.Select(linear => $"{linear.Path[(linear.Path.LastIndexOf('.') + 1)..]} {linear.Weight.OutlierShare:p2}")) + " of columns were outliers");
            }

            if (profile is not null)
            {
                Profile(model, profile, kind.Name, report);
            }
        }
    }

    // A pass of the prompt, and one of 16 texts' tokens, call by call (--processor-time).
    private static void Profile(CausalModel model, ProfilingDevice profile, string name, BenchReport report)
    {
        foreach ((int batch, int length) in new[] { (1, Prompt), (16, 1) })
        {
            using KvCache cache = new(model, batch, Prompt);
            using Workspace workspace = new(model.Backend);
            using Tensor ids = Indices(model, Enumerable.Range(0, batch * length)), positions = Indices(model, Enumerable.Range(0, batch * length).Select(i => i % length));
            for (int run = 0; run < 2; run++)
            {
                cache.Reset();
                profile.Reset();
                using Workspace.Scope scope = workspace.Begin();
                model.Forward(new ModelInput(ids, positions, batch, length), cache, workspace);
            }

            report.Add($"{batch} × {length} {name}: {profile.Times.Sum(item => item.Count)} calls", [1e3 * profile.Times.Sum(item => item.Seconds)], "ms");
            foreach ((string call, int count, double seconds) in profile.Times.Take(20))
            {
                report.Add($"{count}x {call}", [1e3 * seconds], "ms");
            }
        }
    }

    // Rows of gate and up that are larger than others: columns of down's input. The others are as large as trained weights.
    private static AffineWeight Outlying(AffineWeight weight)
    {
        float[] scales = [.. weight.Scales.ToArray().Select((scale, row) => (float)(Half)(scale * (weight.Out > weight.In && row % OutlierStep == 0 && row / OutlierStep < Outliers ? 0.4f : 0.02f)))];
        using (weight)
        {
            Tensor codes = Tensor.OnHost(weight.Codes.Shape, DType.U8);
            weight.Codes.HostSpan<byte>().CopyTo(codes.HostSpan<byte>());
            return new AffineWeight(codes, weight.Bits, weight.GroupSize, scales, weight.Offsets.ToArray(), DType.F16, symmetric: true);
        }
    }

    private static void Spike(string name, Tensor vector)
    {
        for (int i = 0; i < Outliers && name.EndsWith("layernorm.weight", StringComparison.Ordinal); i++)
        {
            vector.HostSpan<float>()[i * OutlierStep] = 20;
        }
    }

    private static void Score(CausalModel model, string name, int rounds, BenchReport report)
    {
        const int batch = 8, length = 1024;
        using KvCache cache = new(model, batch, length);
        using Workspace workspace = new(model.Backend);
        int[] tokens = [.. Enumerable.Range(0, batch * length).Select(i => i * 37 % model.Facts.Vocabulary)];
        using Tensor ids = Indices(model, tokens), targets = Indices(model, tokens), positions = Indices(model, Enumerable.Range(0, batch * length).Select(i => i % length));
        using Tensor losses = model.Backend.Allocate(new Shape(batch * length), DType.F32);
        double Pass()
        {
            cache.Reset();
            model.Backend.Synchronize();
            long start = Stopwatch.GetTimestamp();
            using Workspace.Scope scope = workspace.Begin();
            Tensor hidden = model.Forward(new ModelInput(ids, positions, batch, length), cache, workspace);
            model.LogLikelihood(hidden, targets, losses, null, workspace);
            model.Backend.Synchronize();
            return batch * length / Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        Pass();
        Pass();
        report.Add($"scoring {batch} × {length} {name}", [.. Enumerable.Range(0, rounds).Select(_ => Pass())], "tok/s");
    }

    private static void Measure(CausalModel model, string name, int rounds, BenchReport report)
    {
        using KvCache cache = new(model, 1, Prompt + Tokens);
        using Workspace workspace = new(model.Backend);
        using Tensor logits = model.Backend.Allocate(new Shape(1, model.Facts.Vocabulary), DType.F32);
        using Tensor ids = Indices(model, Enumerable.Range(0, Prompt).Select(i => i * 37 % model.Facts.Vocabulary)), positions = Indices(model, Enumerable.Range(0, Prompt));
        double Prefill()
        {
            cache.Reset();
            model.Backend.Synchronize();
            long start = Stopwatch.GetTimestamp();
            using Workspace.Scope scope = workspace.Begin();
            Tensor hidden = model.Forward(new ModelInput(ids, positions, 1, Prompt), cache, workspace);
            model.Logits(hidden.Slice(Prompt - 1, 1), logits);
            model.Backend.Synchronize();
            return Prompt / Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        Prefill();
        Prefill();
        report.Add($"prompt of {Prompt} {name}", [.. Enumerable.Range(0, rounds).Select(_ => Prefill())], "tok/s");
        report.Add($"decode {Tokens} {name}", Decode(model, cache, workspace, rounds), "tok/s");
    }

    // As generation without a prompt: llama-bench's tg128. Once before it is timed: the step is recorded then.
    private static double[] Decode(CausalModel model, KvCache cache, Workspace workspace, int rounds)
    {
        int batch = cache.Batch;
        using Tensor logits = model.Backend.Allocate(new Shape(batch, model.Facts.Vocabulary), DType.F32);
        using Tensor ids = Indices(model, Enumerable.Range(1, batch)), positions = Indices(model, new int[batch]);
        using DecodeStep step = new(model, cache, () =>
        {
            using Workspace.Scope scope = workspace.Begin();
            model.Logits(model.Forward(new ModelInput(ids, positions, batch, 1), cache, workspace), logits);
        });
        double Once()
        {
            cache.Reset();
            long start = Stopwatch.GetTimestamp();
            for (int i = 0; i < Tokens; i++)
            {
                model.Backend.Write<int>([.. Enumerable.Repeat(cache.Length, batch)], positions);
                step.Run(cache.Length);
                model.Backend.Synchronize();
            }

            return batch * Tokens / Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        Once();
        return [.. Enumerable.Range(0, rounds).Select(_ => Once())];
    }

    private static Tensor Indices(CausalModel model, IEnumerable<int> values) => TokenBatch.Upload(model.Backend, [.. values]);

    // One quantized weight of each shape, packed again for every layer.
    private sealed class SameWeights(WeightKind kind) : IDisposable
    {
        private readonly Dictionary<(nint, nint), QuantizedWeight> _weights = [];

        public IPackedWeight Pack(LinearSpec spec, Tensor floats, IBackend backend)
        {
            if (spec.Role != LinearRole.Block || kind.Make is null)
            {
                using Tensor matrix = floats.To(DType.BF16);
                return backend.Prepare(matrix);
            }

            if (!_weights.TryGetValue((spec.Out, spec.In), out QuantizedWeight? weight))
            {
                _weights.Add((spec.Out, spec.In), weight = kind.Make((int)spec.Out, (int)spec.In));
            }

            return kind == Int8 || kind == ManyOutliers ? backend.PrepareInt8((AffineWeight)weight, 6) : backend.Prepare(weight, ActivationType.F32);
        }

        public void Dispose()
        {
            foreach (QuantizedWeight weight in _weights.Values)
            {
                weight.Dispose();
            }
        }
    }
}
