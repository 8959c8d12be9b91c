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
            using CpuBackend backend = options.CreateBackend();
            ModelConfig config = ModelConfig.Parse(Encoding.UTF8.GetBytes(Config), "embedded configuration");
            IArchitecture architecture = Registry.Architecture(config);
            using RandomWeights weights = new(config, architecture, method == "full" ? DType.F32 : DType.BF16) { Quantize = method == "qlora" ? Nf4 : null };
            using CausalModel model = ModelBuilder.Build(config, weights, backend);
            using ParameterSet parameters = new();
            using LoraAdapter? adapter = method == "full" ? null : Adapter(model, architecture.Linears(config), parameters);
            if (adapter is null)
            {
                parameters.AddAll(model);
            }

            using Trainer trainer = new(model, parameters, Data(), new TrainerSettings { BatchSize = Batch, MaxSteps = options.Rounds + 2, LearningRate = 1e-5 });
            double[] rates = [.. Enumerable.Range(0, options.Rounds + 2).Select(_ => Batch * Length / Clock.Time(() => trainer.RunStep(), seconds: 0)).Skip(2)];
            report.Add($"{method}, {parameters.Count:N0} of {model.ParameterCount / 1e6:F1} M trained", rates, "tok/s");
            report.Add($"{method}, states and activations", [trainer.StateBytes / 1e6], "MB");
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
