using System.Text.Json;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cuda;
using Nibble.IO;
using Nibble.Ops;
using Nibble.Tensors;
using Nibble.Tests.Cuda;
using Nibble.Tests.Kernels;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>Muon against PyTorch and its own definition, on the processor and on the emulated card.</summary>
public class MuonTests
{
    private static readonly OptimizerSettings Settings = new() { Kind = OptimizerKind.Muon, Beta2 = 0.95f, WeightDecay = 0.1f };

    public static TheoryData<string> Variants => [.. CpuVariant.All.Select(variant => variant.Name)];

    [Theory]
    [MemberData(nameof(Variants))]
    public void NewtonSchulzIsPyTorchs(string variant)
    {
        using CpuBackend backend = new(CpuVariant.All.First(item => item.Name == variant), threads: 2);
        foreach (JsonElement item in Golden().GetProperty("newton_schulz").EnumerateArray())
        {
            using Tensor matrix = Sample(item.GetProperty("rows").GetInt32(), item.GetProperty("columns").GetInt32());
            double[] reference = NewtonSchulz.Reference(matrix.HostSpan<float>(), (int)matrix.Shape[0], (int)matrix.Shape[1]);
            NewtonSchulz.Run(backend, matrix);
            double[] expected = [.. item.GetProperty("values").EnumerateArray().Select(value => value.GetDouble())];
            Assert.All(expected.Zip(matrix.HostSpan<float>().ToArray()), pair => Assert.Equal(pair.First, pair.Second, 2e-4));
            Assert.All(expected.Zip(reference), pair => Assert.Equal(pair.First, pair.Second, 2e-4));
        }
    }

    [Fact]
    public void DirectionsOfDifferentStrengthComeOutAlike()
    {
        // Singular values 1, 1/10 and 1/100 of a matrix that is diagonal: what comes out is as well.
        using CpuBackend backend = new(new CpuOptions(2));
        using Tensor matrix = Tensor.From<float>(new Shape(3, 4), DType.F32, [1, 0, 0, 0, 0, 0.1f, 0, 0, 0, 0, -0.01f, 0]);
        NewtonSchulz.Run(backend, matrix);
        float[] values = matrix.HostSpan<float>().ToArray();
        Assert.InRange(values[0], 0.6, 1.3);
        Assert.InRange(values[5], 0.6, 1.3);
        Assert.InRange(-values[10], 0.6, 1.3);
        Assert.True(values.Where((_, i) => i is not (0 or 5 or 10)).All(value => value == 0));
    }

    [SkippableTheory]
    [InlineData("gpt2", "cpu")]
    [InlineData("llama", "cpu")]
    [InlineData("gpt2", "cuda")]
    [InlineData("llama", "cuda")]
    public void TenStepsAreThoseOfPyTorch(string name, string device)
    {
        JsonElement expected = Golden().GetProperty(name);
        using IBackend backend = Open(device, DType.F32);
        using GoldenTraining golden = new(name, backend);
        using ParameterSet parameters = golden.AllParameters();
        using TrainingPass pass = new(golden.Model, parameters);
        using Optimizer optimizer = Optimizer.Create(parameters, backend, Settings);
        double[] losses = [.. expected.GetProperty("losses").EnumerateArray().Select(value => value.GetDouble())];
        for (int step = 0; step < golden.Batches.Length; step++)
        {
            TrainingBatch batch = golden.Batches[step];
            optimizer.ClearGradients();
            Assert.Equal(losses[step], pass.Run(batch, 1f / batch.ScoredTokens) / batch.ScoredTokens, 2e-4);
            optimizer.Step(1e-3, 1);
        }

        foreach (Parameter parameter in parameters.All.Where(parameter => !parameter.Name.EndsWith("c_attn.bias", StringComparison.Ordinal)))
        {
            float[] values = golden.Logical(parameter, parameter.Values);
            double norm = expected.GetProperty("final_weight_norms").GetProperty(parameter.Name).GetDouble(), sum = expected.GetProperty("final_weight_sums").GetProperty(parameter.Name).GetDouble();
            Assert.Equal(norm, Math.Sqrt(values.Sum(value => (double)value * value)), 2e-4 * norm);
            Assert.Equal(sum, values.Sum(value => (double)value), 2e-3 * (1 + Math.Abs(sum)));
        }

        Assert.Equal(name == "gpt2" ? 8 : 14, parameters.All.Count(parameter => parameter.Matrices > 0));
    }

    [SkippableTheory]
    [InlineData(DType.F32, false, 1e-4)]
    [InlineData(DType.F32, true, 1e-4)]
    [InlineData(DType.BF16, false, 0.03)]
    public void ACardMovesManyMatricesAsTheProcessorDoes(DType compute, bool reverse, double tolerance)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using CpuBackend processor = new(new CpuOptions(2));
        using CudaBackend card = new(new EmulatedDevice(reverse), compute);
        float[][] expected = Steps(processor), actual = Steps(card);
        for (int i = 0; i < expected.Length; i++)
        {
            double error = Math.Sqrt(expected[i].Zip(actual[i]).Sum(pair => Math.Pow(pair.First - pair.Second, 2)));
            double moved = Math.Sqrt(expected[i].Sum(value => (double)value * value));
            Assert.True(error <= tolerance * moved, $"tensor {i}: |Δ| {error}, |moved| {moved}");
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void ProductsInBf16GiveNearlyTheSameSteps(string variant)
    {
        Skip.IfNot(CpuVariant.All.Single(one => one.Name == variant).IsSupported, $"this machine cannot run {variant}");
        using CpuBackend single = new(new CpuOptions(2, variant)), half = new(new CpuOptions(2, variant, DType.BF16));
        float[][] expected = Steps(single), actual = Steps(half);
        bool rounds = false;
        for (int i = 0; i < expected.Length; i++)
        {
            double error = Math.Sqrt(expected[i].Zip(actual[i]).Sum(pair => Math.Pow(pair.First - pair.Second, 2)));
            double moved = Math.Sqrt(expected[i].Sum(value => (double)value * value));
            Assert.True(error <= 0.03 * moved, $"tensor {i}: |Δ| {error}, |moved| {moved}");
            rounds |= error > 1e-5 * moved;
        }

        Assert.True(rounds);
    }

    [Fact]
    public void AdaptersHaveNoMatricesForIt()
    {
        using TempFolder folder = new();
        FineTuneOptions options = new()
        {
            Model = Path.Combine(TestData.Assets, "nibble-llama-4m"), Method = "lora", Data = Path.Combine(TestData.Assets, "text", "tune-valid.txt"), Output = folder["out"],
            Trainer = new TrainerSettings { Optimizer = Settings },
        };
        NibbleException error = Assert.Throws<NibbleException>(() => FineTune.Run(options));
        Assert.Contains("--optimizer muon is for --method full", error.Message, StringComparison.Ordinal);
    }

    private static IBackend Open(string device, DType compute)
    {
        Skip.If(device == "cuda" && HostKernels.Problem is not null, HostKernels.Problem);
        return device == "cpu" ? new CpuBackend(new CpuOptions(2)) : new CudaBackend(new EmulatedDevice(), compute);
    }

    private static JsonElement Golden() => JsonDocument.Parse(File.ReadAllBytes(Path.Combine(TestData.Goldens, "training-muon", "golden.json"))).RootElement;

    // The same numbers as in tools/muon_golden.py.
    private static Tensor Sample(int rows, int columns)
    {
        long state = 12345 + rows;
        float[] values = [.. Enumerable.Range(0, rows * columns).Select(_ =>
        {
            state = ((state * 1103515245) + 12345) % (1L << 31);
            return (float)((state / (double)(1 << 30)) - 1);
        })];
        return Tensor.From<float>(new Shape(rows, columns), DType.F32, values);
    }

    // How far three steps move matrices of several shapes, in fused ones each part apart, and a vector.
    private static float[][] Steps(IBackend backend)
    {
        using ParameterSet parameters = new();
        List<IPackedWeight> weights = [];
        foreach ((int rows, int columns, int matrices) in new[] { (48, 16, 3), (16, 16, 1), (40, 24, 1), (24, 40, 1), (200, 130, 1), (7, 130, 1), (16, 48, 1) })
        {
            using Tensor values = KernelData.Random(new Shape(rows, columns), rows);
            weights.Add(backend.Prepare(values));
            parameters.Add($"w{weights.Count}", weights[^1], backend, matrices: matrices);
        }

        using Tensor vector = backend.Allocate(new Shape(50), DType.F32);
        parameters.Add("v", vector, backend);
        using Optimizer optimizer = Optimizer.Create(parameters, backend, Settings);
        float[][] before = Read();
        for (int step = 0; step < 3; step++)
        {
            foreach ((Parameter parameter, int i) in parameters.All.Select((parameter, i) => (parameter, i)))
            {
                using Tensor gradient = KernelData.Random(parameter.Shape, (100 * step) + i);
                ParameterRows.Write(backend, parameter, gradient, parameter.Gradient);
            }

            optimizer.Step(1e-2, 0.5);
        }

        float[][] after = Read();
        weights.ForEach(weight => weight.Dispose());
        return [.. before.Zip(after, (b, a) => b.Zip(a, (x, y) => y - x).ToArray())];

        float[][] Read() => [.. parameters.All.Select(parameter =>
        {
            using Tensor values = ParameterRows.Read(backend, parameter, parameter.Values);
            return values.HostSpan<float>().ToArray();
        })];
    }
}
