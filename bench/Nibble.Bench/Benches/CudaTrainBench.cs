using System.Diagnostics;
using System.Text;
using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;
using Nibble.Benchmarks;
using Nibble.Data;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Bench.Benches;

/// <summary>Training on a card at true shapes with random weights: tokens a second, memory, energy; and attention by itself.</summary>
internal static class CudaTrainBench
{
    private const string Gpt2 = """{"model_type":"gpt2","vocab_size":50257,"n_positions":1024,"n_embd":EMBD,"n_layer":LAYERS,"n_head":HEADS,"activation_function":"gelu_new"}""";

    private const string Llama7B =
        """{"model_type":"llama","vocab_size":32000,"hidden_size":4096,"intermediate_size":11008,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":32,"rms_norm_eps":1e-5,"max_position_embeddings":4096}""";

    private const double IdleSeconds = 1.5;

    private const int WarmSteps = 12;

    private static readonly Work[] All =
    [
        new("gpt2 82M full 32x512", Gpt(768, 6, 12), 32, false),
        new("gpt2 medium full 32x512", Gpt(1024, 24, 16), 32, false),
        new("llama 7B qlora 1x512", Llama7B, 1, true),
        new("llama 7B qlora 1x512, inputs of blocks on the host", Llama7B, 1, true, Offload: true),
        new("llama 7B qlora 32x512", Llama7B, 32, true),
        new("llama 7B qlora 32x512, inputs of blocks on the host", Llama7B, 32, true, Offload: true),
    ];

    /// <summary>Steps of training; --kernels chooses by a part of the name.</summary>
    public static void Run(BenchOptions options, BenchReport report)
    {
        foreach (Work work in All.Where(work => options.Kernels is null || work.Name.Contains(options.Kernels, StringComparison.Ordinal)))
        {
            using CudaDevice device = CudaDevice.Open(0);
            using ProfilingDevice? profile = options.ProcessorTime ? new ProfilingDevice(device) { IsTiming = false } : null;
            using CudaBackend backend = new(profile ?? (ICudaDevice)device, DType.BF16);
            ModelConfig config = ModelConfig.Parse(Encoding.UTF8.GetBytes(work.Config), "embedded configuration");
            IArchitecture architecture = Registry.Architecture(config);
            using SharedWeights weights = new(config, architecture, work.Quantized);
            using CausalModel model = ModelBuilder.Build(config, weights, backend);
            using ParameterSet parameters = new();
            using LoraAdapter? adapter = work.Quantized ? LoraAdapter.Create(model, architecture.Linears(config), new LoraSettings { Rank = 8, TargetModules = [TargetModules.AllLinear] }, 1) : null;
            adapter?.Attach(model);
            adapter?.AddTo(parameters);
            if (adapter is null)
            {
                parameters.AddAll(model);
            }

            TrainerSettings settings = new() { BatchSize = work.Batch, MaxSteps = 100, LearningRate = 1e-5, GradientCheckpointing = work.Quantized, OffloadCheckpoints = work.Offload };
            using Trainer trainer = new(model, parameters, Data(work.Batch, model.Facts.Vocabulary), settings);
            if (profile is null)
            {
                Measure(work, device, backend, trainer, options.Rounds, report);
            }
            else
            {
                Profile(work, profile, trainer, report);
            }
        }
    }

    /// <summary>Attention in BF16 at the issue's shapes, by the card's clock.</summary>
    public static void Attention(BenchOptions options, BenchReport report)
    {
        using CudaDevice device = CudaDevice.Open(0);
        using CudaBackend backend = new(device, DType.BF16);
        foreach ((int batch, int heads, int kvHeads, int length, int dim) in new[] { (32, 32, 32, 512, 128), (4, 32, 32, 2048, 128), (32, 16, 16, 512, 64), (32, 32, 8, 512, 128), (4, 32, 8, 2048, 128) })
        {
            Shape q = new((nint)batch * length, heads, dim), cache = new(batch, kvHeads, length, dim);
            Tensor[] t = [.. new[] { q, cache, cache, q, q, q, cache, cache }.Select((shape, i) => Random(backend, shape, i))];
            using Tensor sums = backend.Allocate(new Shape(q[0], heads), DType.F32);
            AttentionArguments a = new(t[0], t[1], t[2], t[3], batch, length, 0, null, 1 / MathF.Sqrt(dim), 0) { LogSums = sums };
            double Micros(Action queue)
            {
                queue();
                return 1e6 * device.Time(() =>
                {
                    for (int i = 0; i < 5; i++)
                    {
                        queue();
                    }
                }) / 5;
            }

            string name = $"{batch}x{heads}{(kvHeads == heads ? string.Empty : $"/{kvHeads}")}x{length}x{dim}";
            report.Add(name + " forward", [.. Enumerable.Range(0, options.Rounds).Select(_ => Micros(() => backend.Kernels.Attention(a)))], "µs");
            report.Add(name + " forward + backward", [.. Enumerable.Range(0, options.Rounds).Select(_ => Micros(() =>
            {
                backend.Kernels.Attention(a);
                backend.Gradients.AttentionInto(a, t[4], t[5], t[6], t[7]);
            }))], "µs");
            Console.Error.WriteLine($"{name}: {(device.Attention is { } cudnn ? cudnn.Refusal ?? $"cuDNN {CudnnAttention.Version()}" : $"own kernels ({CudnnAttention.Problem()})")}");
            Array.ForEach(t, tensor => tensor.Dispose());
        }
    }

    /// <summary>One step, call by call (--processor-time).</summary>
    private static void Profile(Work work, ProfilingDevice profile, Trainer trainer, BenchReport report)
    {
        // The card is slow until it has worked for a while.
        for (int i = 0; i < WarmSteps; i++)
        {
            trainer.RunStep();
        }

        ProfilingDevice.StartCapture();
        profile.Reset();
        profile.IsTiming = true;
        trainer.RunStep();
        profile.IsTiming = false;
        ProfilingDevice.StopCapture();
        int calls = profile.Times.Sum(item => item.Count);
        double all = profile.Times.Sum(item => item.Seconds), empty = profile.Empty();
        report.Add($"{work.Name}: {calls} calls", [1e3 * all], "ms");
        report.Add("the same without what an empty call takes", [1e3 * (all - (calls * empty))], "ms");
        foreach ((string name, int count, double seconds) in profile.Times.Take(36))
        {
            report.Add($"{count}x {name}", [1e3 * seconds], "ms");
        }
    }

    private static void Measure(Work work, CudaDevice device, CudaBackend backend, Trainer trainer, int rounds, BenchReport report)
    {
        trainer.RunStep();
        trainer.RunStep();
        backend.Memory.Allocator.ResetPeak(consumers: true);
        double? idle = Watts(device, () => Thread.Sleep(TimeSpan.FromSeconds(IdleSeconds)));
        double tokens = work.Batch * 512.0;
        List<double> seconds = [];
        double loss = 0;
        double? busy = Watts(device, () =>
        {
            for (int i = 0; i < rounds; i++)
            {
                long start = Stopwatch.GetTimestamp();
                loss = trainer.RunStep().Loss;
                seconds.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
            }
        });
        report.Add(work.Name, [.. seconds.Select(s => tokens / s)], "tok/s");
        report.Add(work.Name + ", peak in use", [backend.PeakBytes / 1e9], "GB");
        report.Add(work.Name + ", taken from the card", [backend.Memory.Allocator.ReservedBytes / 1e9], "GB");
        foreach ((string what, long bytes) in backend.Memory.Allocator.ConsumersAtPeak)
        {
            report.Add($"{work.Name}, of the peak: {what}", [bytes / 1e9], "GB");
        }

        report.Add(work.Name + ", loss", [loss], "nats");
        if (idle is { } i && busy is { } b)
        {
            report.Add(work.Name + ", power idle", [i], "W");
            report.Add(work.Name + ", energy above idle", [(b - i) * seconds.Sum() / (rounds * tokens) * 1e3], "mJ/tok");
        }
    }

    private static double? Watts(CudaDevice device, Action work)
    {
        long start = Stopwatch.GetTimestamp();
        double? before = Nvml.Joules(device.PciBusId);
        work();
        double? after = Nvml.Joules(device.PciBusId);
        return (after - before) / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static Tensor Random(CudaBackend backend, Shape shape, int seed)
    {
        using Tensor host = Tensor.OnHost(shape, DType.BF16);
        Random random = new(seed);
        foreach (ref ushort value in host.HostSpan<ushort>())
        {
            // Magnitudes of 0.25 to 2, with a sign.
            value = (ushort)(0x3e80 + random.Next(0x180) + (random.Next(2) << 15));
        }

        return host.Upload(backend);
    }

    private static TrainingSet Data(int batch, int vocabulary)
    {
        TrainingRow[] rows = [.. Enumerable.Range(0, 2 * batch).Select(row =>
        {
            int[] ids = [.. Enumerable.Range(0, 513).Select(i => (int)(CounterRandom.Bits((ulong)row, (ulong)i) % (ulong)vocabulary))];
            return new TrainingRow(ids[..^1], ids[1..]);
        })];
        return new TrainingSet(rows, rows.Length);
    }

    private static string Gpt(int embd, int layers, int heads) => Gpt2.Replace("EMBD", $"{embd}", StringComparison.Ordinal)
        .Replace("LAYERS", $"{layers}", StringComparison.Ordinal).Replace("HEADS", $"{heads}", StringComparison.Ordinal);

    private sealed record Work(string Name, string Config, int Batch, bool Quantized, bool Offload = false);

    /// <summary>Random weights; blocks in NF4 with double quantization, each with memory of its own but the numbers of its shape.</summary>
    private sealed class SharedWeights(ModelConfig config, IArchitecture architecture, bool quantized) : IWeightSource
    {
        private readonly RandomWeights _random = new(config, architecture, quantized ? DType.BF16 : DType.F32);
        private readonly Dictionary<(nint, nint), QuantizedWeight> _known = [];

        public string Source => _random.Source;

        public IReadOnlyCollection<string> Names => _random.Names;

        public Shape? ShapeOf(string name) => _random.ShapeOf(name);

        public Tensor Tensor(string name) => _random.Tensor(name);

        public string? Problem(LinearSpec spec) => null;

        public IPackedWeight Linear(LinearSpec spec, IBackend backend)
        {
            if (!quantized || spec.Role != LinearRole.Block)
            {
                return _random.Linear(spec, backend);
            }

            if (!_known.TryGetValue((spec.Out, spec.In), out QuantizedWeight? weight))
            {
                IQuantizationMethod nf4 = Registry.Method("nf4");
                using Tensor matrix = Tensors.Tensor.OnHost(new Shape(spec.Out, spec.In), DType.F32);
                CounterRandomFill(matrix.HostSpan<float>());
                weight = nf4.Quantize(spec.Path, matrix, nf4.Complete(new QuantizationSettings { Method = "nf4", DoubleQuant = true }));
                _known.Add((spec.Out, spec.In), weight);
            }

            return backend.Prepare(weight, ActivationType.F32);
        }

        public void Dispose()
        {
            foreach (QuantizedWeight weight in _known.Values)
            {
                weight.Dispose();
            }
        }

        private static void CounterRandomFill(Span<float> values)
        {
            Random random = new(1);
            foreach (ref float value in values)
            {
                value = 0.06f * (random.NextSingle() - 0.5f);
            }
        }
    }
}
