using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Ops;
using Nibble.Tensors;
using Nibble.Tests.Kernels;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

public class OptimizerTests
{
    public static TheoryData<string> Variants => GradientBackends.Names;

    [Fact]
    public void TheMapsAreTheirDefinition()
    {
        foreach ((float[] map, int factor) in new[] { (DynamicMaps.Unsigned, 2), (DynamicMaps.Signed[127..], 1) })
        {
            List<double> values = [0, 1];
            for (int exponent = 0; exponent < 7; exponent++)
            {
                int bins = factor << exponent;
                values.AddRange(Enumerable.Range(0, bins).Select(bin => (0.1 + (0.9 * (bin + 0.5) / bins)) * Math.Pow(10, exponent - 6)));
            }

            values.Sort();
            Assert.Equal(values.Count, map.Length);
            Assert.All(values.Zip(map), pair => Assert.Equal(pair.First, pair.Second, 1e-6 * pair.First));
        }

        Assert.Equal(256, DynamicMaps.Signed.Length);
        Assert.Equal(256, DynamicMaps.Unsigned.Length);
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public void EightBitStepsAreThoseOfTheReference(string variant)
    {
        const int count = 3000, blocks = 12;
        using IBackend backend = GradientBackends.Open(variant);
        AdamW8BitArguments Make() => new(
            KernelData.Random(new Shape(count), 1), KernelData.Random(new Shape(count), 2), Tensor.OnHost(new Shape(count), DType.U8), Tensor.OnHost(new Shape(blocks), DType.F32),
            Tensor.OnHost(new Shape(count), DType.U8), Tensor.OnHost(new Shape(blocks), DType.F32), 0.7f, 1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 1);
        AdamW8BitArguments actual = Make(), expected = Make();
        for (int step = 1; step <= 5; step++)
        {
            using Tensor gradient = KernelData.Random(new Shape(count), 10 + step);
            backend.Gradients.AdamW8Bit(actual with { Gradient = gradient, Step = step });
            Nibble.Ops.AdamW8Bit.Reference(expected with { Gradient = gradient, Step = step });
            KernelData.Close(actual.Values, expected.Values, 1e-5f, $"values after step {step}");
            KernelData.Close(actual.FirstScales, expected.FirstScales, 1e-5f, "scales");
            // A value half-way between two codes may fall to either; both then stand for almost the same.
            Assert.True(Differing(actual.First, expected.First) <= 3 && Differing(actual.Second, expected.Second) <= 3);
            expected.First.HostSpan<byte>().CopyTo(actual.First.HostSpan<byte>());
            expected.Second.HostSpan<byte>().CopyTo(actual.Second.HostSpan<byte>());
        }
    }

    [Fact]
    public void SgdIsPyTorchs()
    {
        // torch.optim.SGD(lr=0.1, momentum=0.9, weight_decay=0.01), two steps by hand.
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        using Tensor weight = Tensor.From<float>(new Shape(2), DType.F32, [1, -2]);
        using ParameterSet parameters = new();
        parameters.Add("w", weight, backend);
        using Optimizer sgd = Optimizer.Create(parameters, backend, new OptimizerSettings { Kind = OptimizerKind.Sgd, Momentum = 0.9f, WeightDecay = 0.01f });
        double[] w = [1, -2], v = [0, 0];
        for (int step = 0; step < 2; step++)
        {
            float[] gradient = [0.5f, 0.25f * (step + 1)];
            gradient.CopyTo(parameters.All[0].Gradient.HostSpan<float>());
            sgd.Step(0.1, 1);
            for (int i = 0; i < 2; i++)
            {
                v[i] = (0.9 * v[i]) + gradient[i] + (0.01 * w[i]);
                w[i] -= 0.1 * v[i];
                Assert.Equal(w[i], weight.HostSpan<float>()[i], 1e-6);
            }
        }
    }

    [Theory]
    [InlineData(OptimizerKind.AdamW)]
    [InlineData(OptimizerKind.AdamW8Bit)]
    [InlineData(OptimizerKind.Sgd)]
    [InlineData(OptimizerKind.Muon)]
    public void PagedStatesGiveTheSameBitsInLessMemory(OptimizerKind kind)
    {
        using Setup memory = new(kind, paged: false), file = new(kind, paged: true);
        for (int step = 0; step < 4; step++)
        {
            memory.Step(step);
            file.Step(step);
        }

        Assert.Equal(memory.Values(), file.Values());
        Assert.True(file.Optimizer.ByteLength < memory.Optimizer.ByteLength);
        Assert.All(memory.Optimizer.Save().Zip(file.Optimizer.Save()), pair => Assert.Equal(Bytes(pair.First.Values), Bytes(pair.Second.Values)));
    }

    [Fact]
    public void EightBitMomentsTakeAQuarterOfTheMemory()
    {
        using Setup whole = new(OptimizerKind.AdamW, paged: false), coded = new(OptimizerKind.AdamW8Bit, paged: false);
        whole.Step(0);
        coded.Step(0);
        Assert.True(coded.Optimizer.ByteLength < 0.3 * whole.Optimizer.ByteLength);
    }

    [Fact]
    public void MasterWeightsAreRoundedIntoTheModels()
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 2));
        using Tensor start = KernelData.Random(new Shape(37, 50), 1), half = start.To(DType.BF16);
        using IPackedWeight weight = backend.Prepare(half);
        using ParameterSet parameters = new();
        parameters.AddMastered("w", weight, backend);
        using Optimizer optimizer = Optimizer.Create(parameters, backend, new OptimizerSettings());
        Parameter parameter = parameters.All[0];
        for (int step = 0; step < 3; step++)
        {
            backend.Gradients.Fill(parameter.Gradient, 0.3f);
            optimizer.Step(1e-4, 1);
        }

        using Tensor master = ParameterRows.Read(backend, parameter, parameter.Values), rounded = master.To(DType.BF16).To(DType.F32), held = ParameterRows.Dense(backend, weight);
        Assert.Equal(rounded.HostSpan<float>().ToArray(), held.HostSpan<float>().ToArray());
        Assert.NotEqual(master.HostSpan<float>().ToArray(), held.HostSpan<float>().ToArray());
    }

    private static byte[] Bytes(Tensor tensor) => tensor.DType == DType.U8
        ? tensor.HostSpan<byte>().ToArray()
        : System.Runtime.InteropServices.MemoryMarshal.AsBytes(tensor.HostSpan<float>()).ToArray();

    private static int Differing(Tensor a, Tensor b) => a.HostSpan<byte>().ToArray().Zip(b.HostSpan<byte>().ToArray()).Count(pair => pair.First != pair.Second);

    /// <summary>Some matrices and a vector with an optimizer.</summary>
    private sealed class Setup : IDisposable
    {
        private readonly CpuBackend _backend = new(new CpuOptions(Threads: 2));
        private readonly ParameterSet _parameters = new();

        public Setup(OptimizerKind kind, bool paged)
        {
            foreach (int rows in new[] { 90, 33, 70, 5 })
            {
                using Tensor values = KernelData.Random(new Shape(rows, 130), rows);
                _parameters.Add($"w{rows}", _backend.Prepare(values), _backend, matrices: 1);
            }

            _parameters.Add("v", KernelData.Random(new Shape(100), 9), _backend);
            Optimizer = Optimizer.Create(_parameters, _backend, new OptimizerSettings { Kind = kind, Paged = paged, WeightDecay = 0.01f });
        }

        public Optimizer Optimizer { get; }

        public void Step(int step)
        {
            foreach (Parameter parameter in _parameters.All)
            {
                using Tensor gradient = KernelData.Random(parameter.Gradient.Shape, step);
                gradient.HostSpan<float>().CopyTo(parameter.Gradient.HostSpan<float>());
            }

            Optimizer.Step(1e-3, 0.5);
        }

        public float[] Values() => [.. _parameters.All.SelectMany(parameter => parameter.Values.HostSpan<float>().ToArray())];

        public void Dispose()
        {
            Optimizer.Dispose();
            _parameters.Dispose();
            _backend.Dispose();
        }
    }
}
