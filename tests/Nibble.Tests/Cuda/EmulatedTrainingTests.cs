using System.Text;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;
using Nibble.Benchmarks;
using Nibble.Data;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tests.Kernels;
using Nibble.Tests.Models;
using Nibble.Tuning;

namespace Nibble.Tests.Cuda;

/// <summary>Training on the emulated card: every method against the processor, and in BF16 against F32.</summary>
public class EmulatedTrainingTests
{
    private const string Llama =
        """{"model_type":"llama","vocab_size":96,"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,"rms_norm_eps":1e-5,"max_position_embeddings":64}""";

    private const string Gpt2 = """{"model_type":"gpt2","vocab_size":97,"n_positions":64,"n_embd":64,"n_layer":2,"n_head":2,"activation_function":"gelu_new"}""";

    public static TheoryData<string> Checks => [.. HalfChecks.All.Select(check => check.Name)];

    [SkippableTheory]
    [InlineData(Gpt2, "full", OptimizerKind.AdamW8Bit, false)]
    [InlineData(Llama, "full", OptimizerKind.AdamW, true)]
    [InlineData(Gpt2, "full", OptimizerKind.Muon, false)]
    [InlineData(Llama, "lora", OptimizerKind.AdamW, false)]
    [InlineData(Llama, "qlora", OptimizerKind.AdamW, true)]
    [InlineData(Gpt2, "dora", OptimizerKind.Sgd, false)]
    [InlineData(Llama, "ia3", OptimizerKind.AdamW, false)]
    [InlineData(Llama, "prefix", OptimizerKind.AdamW, false)]
    [InlineData(Gpt2, "prompt", OptimizerKind.AdamW8Bit, false)]
    [InlineData(Gpt2, "qat", OptimizerKind.AdamW, false)]
    [InlineData(Llama, "bitnet", OptimizerKind.AdamW, true)]
    public void EveryMethodTrainsAsOnTheProcessor(string config, string method, OptimizerKind optimizer, bool checkpointing)
    {
        double[] expected = Losses(new CpuBackend(new CpuOptions(2)), config, method, optimizer, checkpointing, out _);
        double[] actual = Losses(Open(DType.F32), config, method, optimizer, checkpointing, out float[] first);
        Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 1e-4 * pair.First));
        Assert.Equal(actual, Losses(Open(DType.F32), config, method, optimizer, checkpointing, out float[] second));
        Assert.Equal(first, second);
        Assert.True(expected[^1] < expected[0]);
    }

    [SkippableTheory]
    [InlineData(Gpt2, "full", false)]
    [InlineData(Llama, "full", true)]
    [InlineData(Llama, "qlora", true)]
    [InlineData(Gpt2, "lora", false)]
    [InlineData(Llama, "prefix", false)]
    public void Bf16TrainsAsF32(string config, string method, bool checkpointing)
    {
        double[] expected = Losses(Open(DType.F32), config, method, OptimizerKind.AdamW, checkpointing, out float[] exact);
        double[] actual = Losses(Open(DType.BF16), config, method, OptimizerKind.AdamW, checkpointing, out float[] rounded);
        Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 0.01 * pair.First));
        double dot = exact.Zip(rounded).Sum(pair => (double)pair.First * pair.Second), a = exact.Sum(v => (double)v * v), b = rounded.Sum(v => (double)v * v);
        Assert.InRange(dot / Math.Sqrt(a * b), 0.99, 1.001);
    }

    /// <summary>The first batch of a step writes the gradients of matrices, the next add; the head is the embedding, too.</summary>
    [SkippableTheory]
    [InlineData(DType.F32, 1e-3)]
    [InlineData(DType.BF16, 0.05)]
    public void BatchesOfAStepAddUp(DType compute, double tolerance)
    {
        Losses(Open(compute), Gpt2, "full", OptimizerKind.Sgd, checkpointing: false, out float[] start, steps: 0);
        Losses(Open(compute), Gpt2, "full", OptimizerKind.Sgd, checkpointing: false, out float[] once);
        Losses(Open(compute), Gpt2, "full", OptimizerKind.Sgd, checkpointing: false, out float[] inParts, parts: 4);
        double error = Math.Sqrt(once.Zip(inParts).Sum(pair => Math.Pow(pair.First - pair.Second, 2)) / once.Zip(start).Sum(pair => Math.Pow(pair.First - pair.Second, 2)));
        Assert.InRange(error, 0, tolerance);
    }

    /// <summary>The way back through a layer and the GELU before it is one product, for each of two blocks and three steps; a prompt's way forward, too.</summary>
    [SkippableFact]
    public void GeluIsAPartOfProductsInBf16()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        EmulatedDevice device = new();
        Losses(new CudaBackend(device, DType.BF16), Gpt2, "full", OptimizerKind.AdamW, checkpointing: false, out _);
        Assert.Equal(6, device.Ends.GetValueOrDefault(GemmEnd.GeluSlope));
        Assert.Equal(0, device.Ends.GetValueOrDefault(GemmEnd.Gelu));

        EmulatedDevice other = new();
        using CudaBackend backend = new(other, DType.BF16);
        ModelConfig config = ModelConfig.Parse(Encoding.UTF8.GetBytes(Gpt2), "test");
        using RandomWeights weights = new(config, Registry.Architecture(config), DType.BF16);
        using CausalModel model = ModelBuilder.Build(config, weights, backend);
        float[][] logits = ModelRun.Batched(model, [.. Enumerable.Range(0, 3).Select(row => Enumerable.Range(0, 50).Select(i => (row + (7 * i)) % 96).ToArray())], left: false).SelectMany(row => row).ToArray();
        Assert.Equal(2, other.Ends.GetValueOrDefault(GemmEnd.Gelu));
        Assert.All(logits, row => Assert.All(row, value => Assert.True(float.IsFinite(value))));
    }

    [SkippableFact]
    public void WithoutProductsForItGeluIsAKernelOfItsOwn()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        EmulatedDevice device = new() { HasEnds = false };
        double[] actual = Losses(new CudaBackend(device, DType.BF16), Gpt2, "full", OptimizerKind.AdamW, checkpointing: false, out _);
        Assert.Equal([GemmEnd.Plain], device.Ends.Keys);
        double[] expected = Losses(Open(DType.BF16), Gpt2, "full", OptimizerKind.AdamW, checkpointing: false, out _);
        Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 0.02));
    }

    [SkippableTheory]
    [InlineData("nf4", false)]
    [InlineData("nf4", true)]
    [InlineData("rtn", false)]
    [InlineData("quanto", false)]
    [InlineData("int8", false)]
    [InlineData("ternary", false)]
    public void WhatTrainingRoundsIsWhatTheProcessorRounds(string method, bool doubled)
    {
        using CudaBackend backend = Open(DType.F32);
        QuantizationSettings settings = Registry.Method(method).Complete(new QuantizationSettings { Method = method, DoubleQuant = doubled ? true : null });
        using Tensor matrix = KernelData.Random(new Shape(24, 128), 5);
        using IPackedWeight master = backend.Prepare(matrix), target = backend.Prepare(matrix);
        using QuantizedWeight weight = Registry.Method(method).Quantize("w", matrix, settings);
        using Tensor rounded = weight.Dequantize();
        foreach (float share in new[] { 1, 0.3f, 0 })
        {
            Assert.True(((IBackend)backend).Quantizer!.TryRound("w", master, settings, share, target));
            using Tensor actual = ParameterRows.Dense(backend, target);
            float[] expected = [.. matrix.HostSpan<float>().ToArray().Zip(rounded.HostSpan<float>().ToArray(), (w, r) => share == 1 ? r : w + (share * (r - w)))];
            Assert.Equal(expected, actual.HostSpan<float>().ToArray());
        }

        matrix.HostSpan<float>()[77] = float.NaN;
        using IPackedWeight spoiled = backend.Prepare(matrix);
        Assert.Contains("w", Assert.Throws<NibbleException>(() => ((IBackend)backend).Quantizer!.TryRound("w", spoiled, settings, 1, target)).Message, StringComparison.Ordinal);
    }

    [SkippableTheory]
    [MemberData(nameof(Checks))]
    public void KernelsInBf16EqualThoseInF32(string check)
    {
        foreach (bool reverse in new[] { false, true })
        {
            using CudaBackend backend = Open(DType.BF16, reverse);
            HalfChecks.All.First(item => item.Name == check).Run(backend);
        }
    }

    private static CudaBackend Open(DType compute, bool reverse = false)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        return new CudaBackend(new EmulatedDevice(reverse), compute);
    }

    /// <summary>Losses of three steps, and the trained numbers after them.</summary>
    private static double[] Losses(IBackend backend, string json, string method, OptimizerKind optimizer, bool checkpointing, out float[] trained, int parts = 1, int steps = 3)
    {
        using IBackend owned = backend;
        ModelConfig config = ModelConfig.Parse(Encoding.UTF8.GetBytes(json), "test");
        IArchitecture architecture = Registry.Architecture(config);
        using RandomWeights weights = new(config, architecture, DType.F32) { Quantize = method == "qlora" ? Nf4 : null };
        using CausalModel model = ModelBuilder.Build(config, weights, backend);
        using ParameterSet parameters = new();
        using PeftAdapter? adapter = Adapter(method, model, architecture.Linears(config));
        using QuantizedTraining? quantized = Quantized(method) is { } quantizer ? new QuantizedTraining(model, config, quantizer) : null;
        adapter?.Attach(model);
        adapter?.AddTo(parameters);
        quantized?.AddTo(parameters);
        if (adapter is null && quantized is null)
        {
            parameters.AddAll(model);
        }

        Random random = new(3);
        TrainingRow[] rows = [.. new[] { 9, 6, 12, 5 }.Select(length =>
        {
            int[] ids = [.. Enumerable.Range(0, length + 1).Select(_ => random.Next(96))];
            return new TrainingRow(ids[..^1], ids[1..]);
        })];
        TrainerSettings settings = new()
        {
            BatchSize = 4 / parts, GradAccumulationSteps = parts, MaxSteps = 3, LearningRate = 0.01, Schedule = ScheduleKind.Constant, WarmupRatio = 0, GradientCheckpointing = checkpointing,
            OffloadCheckpoints = checkpointing,
            Optimizer = new OptimizerSettings { Kind = optimizer, Paged = method == "lora" },
        };
        using Trainer trainer = new(model, parameters, new TrainingSet(rows, rows.Length), settings, adapter) { Quantized = quantized };
        double[] losses = [.. Enumerable.Range(0, steps).Select(_ => trainer.RunStep().Loss)];
        trained = [.. parameters.All.SelectMany(parameter =>
        {
            using Tensor values = ParameterRows.Read(backend, parameter, parameter.Values);
            return values.HostSpan<float>().ToArray();
        })];
        return losses;
    }

    private static QuantizedTrainingSettings? Quantized(string method) => method switch
    {
        "qat" => new QuantizedTrainingSettings(new QuantizationSettings { Method = "rtn", Bits = 4, GroupSize = 32 }, ActivationType.F32, 0.9),
        "bitnet" => QuantizedTrainingSettings.BitNet,
        _ => null,
    };

    private static PeftAdapter? Adapter(string method, CausalModel model, IReadOnlyList<LinearSpec> linears) => method switch
    {
        "full" or "qat" or "bitnet" => null,
        "ia3" => Ia3Adapter.Create(model, linears, new Ia3Settings()),
        "prefix" => PrefixAdapter.Create(model, 5, null, 7),
        "prompt" => PromptAdapter.Create(model, 5, null, 7),
        _ => LoraAdapter.Create(model, linears, new LoraSettings { Rank = 4, Dropout = 0.1, TargetModules = [TargetModules.AllLinear], UseDora = method == "dora" }, 7),
    };

    private static IPackedWeight Nf4(LinearSpec spec, Tensor matrix, IBackend backend)
    {
        if (spec.Role != LinearRole.Block)
        {
            return backend.Prepare(matrix);
        }

        IQuantizationMethod nf4 = Registry.Method("nf4");
        using QuantizedWeight weight = nf4.Quantize(spec.Path, matrix, nf4.Complete(new QuantizationSettings { Method = "nf4", DoubleQuant = true }));
        return backend.Prepare(weight, ActivationType.F32);
    }
}
