using System.Text;
using Nibble.Backends.Cpu;
using Nibble.Backends;
using Nibble.Benchmarks;
using Nibble.Data;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Bench.Benches;

/// <summary>Training steps of a GPT-2 of 10 M parameters, batch 8 × 256: full, LoRA, and LoRA over NF4 (QLoRA).</summary>
internal static class TrainBench
{
    private const int Batch = 8;
    private const int Length = 256;

    private const string Config =
        """{"model_type":"gpt2","vocab_size":8192,"n_positions":512,"n_embd":320,"n_layer":6,"n_head":5,"activation_function":"gelu_new"}""";

    public static void Run(BenchOptions options, BenchReport report)
    {
        foreach (string method in new[] { "full", "lora", "qlora" }.Where(name => options.Method is null || options.Method == name))
        {
            using Training floats = new(options, method, DType.F32), halves = new(options, method, DType.BF16);
            double[][] times = Clock.Rounds(options.Rounds, [() => floats.Step(), () => halves.Step()]);
            foreach ((Training training, double[] seconds) in new[] { (floats, times[0]), (halves, times[1]) })
            {
                bool isHalf = training == halves;
                string name = $"{method}, {training.Numbers}, products in {(isHalf ? "BF16" : "F32")}";
                report.Add(name, [.. seconds.Select(t => Batch * Length / t)], "tok/s", isHalf ? [.. times[0].Zip(seconds, (f, h) => f / h)] : null, "F32");
            }

            report.Add($"{method}, states and activations", [floats.Trainer.StateBytes / 1e6], "MB");
        }
    }

    /// <summary>A model in training.</summary>
    private sealed class Training : IDisposable
    {
        private readonly CpuBackend _backend;
        private readonly RandomWeights _weights;
        private readonly CausalModel _model;
        private readonly ParameterSet _parameters = new();
        private readonly LoraAdapter? _adapter;

        public Training(BenchOptions options, string method, DType compute)
        {
            _backend = options.CreateBackend(compute);
            ModelConfig config = ModelConfig.Parse(Encoding.UTF8.GetBytes(Config), "embedded configuration");
            IArchitecture architecture = Registry.Architecture(config);
            _weights = new RandomWeights(config, architecture, method == "full" ? DType.F32 : DType.BF16) { Quantize = method == "qlora" ? Nf4 : null };
            _model = ModelBuilder.Build(config, _weights, _backend);
            _adapter = method == "full" ? null : Adapter(_model, architecture.Linears(config), _parameters);
            if (_adapter is null)
            {
                _parameters.AddAll(_model);
            }

            Trainer = new Trainer(_model, _parameters, Data(), new TrainerSettings { BatchSize = Batch, MaxSteps = 1000, LearningRate = 1e-5 });
            Step();
        }

        public Trainer Trainer { get; }

        public string Numbers => $"{_parameters.Count:N0} of {_model.ParameterCount / 1e6:F1} M trained";

        public void Step() => Trainer.RunStep();

        public void Dispose()
        {
            Trainer.Dispose();
            _adapter?.Dispose();
            _parameters.Dispose();
            _model.Dispose();
            _weights.Dispose();
            _backend.Dispose();
        }
    }

    private static LoraAdapter Adapter(CausalModel model, IReadOnlyList<LinearSpec> linears, ParameterSet parameters)
    {
        LoraAdapter adapter = LoraAdapter.Create(model, linears, new LoraSettings { Rank = 8, TargetModules = ["c_attn", "c_proj"] }, 1);
        adapter.Attach(model);
        adapter.AddTo(parameters);
        return adapter;
    }

    private static IPackedWeight Nf4(LinearSpec spec, Tensor matrix, IBackend backend)
    {
        if (spec.Role != LinearRole.Block)
        {
            using Tensor dense = matrix.To(DType.BF16);
            return backend.Prepare(dense);
        }

        IQuantizationMethod method = Registry.Method("nf4");
        using QuantizedWeight weight = method.Quantize(spec.Path, matrix, method.Complete(new QuantizationSettings { Method = "nf4", DoubleQuant = true }));
        return backend.Prepare(weight, ActivationType.F32);
    }

    private static TrainingSet Data()
    {
        TrainingRow[] rows = [.. Enumerable.Range(0, 4 * Batch).Select(row =>
        {
            int[] ids = [.. Enumerable.Range(0, Length + 1).Select(i => (int)(CounterRandom.Bits((ulong)row, (ulong)i) % 8192))];
            return new TrainingRow(ids[..^1], ids[1..]);
        })];
        return new TrainingSet(rows, rows.Length);
    }
}
