using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Tensors;
using Nibble.Tests.Kernels;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>Gradients of matrices are not filled with zeros for a step: what comes first is written.</summary>
public class ClearedGradientTests
{
    private const int Tokens = 5, Outs = 6, Ins = 8;

    [Fact]
    public void TheFirstProductIsWrittenAndTheNextAreAdded()
    {
        using Setup setup = new();
        setup.Stale();
        setup.Parameters.ClearGradients(setup.Kernels);
        setup.Add();
        float[] once = setup.Gradient();
        setup.Add();
        Assert.All(setup.Gradient().Zip(once), pair => Assert.Equal(2 * pair.Second, pair.First, 1e-5));

        // The same as with zeros.
        setup.Kernels.Fill(setup.Matrix.Gradient, 0);
        setup.Add();
        Assert.Equal(setup.Gradient(), once);
    }

    [Fact]
    public void WhatGotNoGradientCountsAsZero()
    {
        using Setup setup = new();
        setup.Stale();
        float[] before = setup.Values();
        using Optimizer optimizer = Optimizer.Create(setup.Parameters, setup.Backend, new OptimizerSettings { Kind = OptimizerKind.Sgd, Momentum = 0, WeightDecay = 0 });
        optimizer.ClearGradients();
        Assert.Equal(0, optimizer.GradientNorm());
        optimizer.ClearGradients();
        optimizer.Step(0.1, 1);
        Assert.Equal(before, setup.Values());
        Assert.All(setup.Gradient(), value => Assert.Equal(0, value));
    }

    [Fact]
    public void WhatAddsToPartsFindsZeros()
    {
        using Setup setup = new();
        using Tensor dy = KernelData.Random(new Shape(2, Ins), 7), ids = KernelData.Indices([1, 3]);
        setup.Stale();
        setup.Parameters.ClearGradients(setup.Kernels);
        setup.Kernels.Gather(dy, ids, setup.Matrix.Weight!, setup.Parameters.Settled(setup.Matrix, setup.Kernels));
        float[] gathered = setup.Gradient();
        for (int i = 0; i < gathered.Length; i++)
        {
            Assert.Equal(i / Ins is 1 ? dy.HostSpan<float>()[i % Ins] : i / Ins is 3 ? dy.HostSpan<float>()[Ins + (i % Ins)] : 0, gathered[i]);
        }

        // A tied matrix: then a product, which adds.
        setup.Add();
        float[] both = setup.Gradient();
        setup.Parameters.ClearGradients(setup.Kernels);
        setup.Add();
        Assert.All(both.Zip(gathered, setup.Gradient()), item => Assert.Equal(item.Second + item.Third, item.First, 1e-5));
    }

    private sealed class Setup : IDisposable
    {
        private readonly IPackedWeight _weight;
        private readonly Tensor _x = KernelData.Random(new Shape(Tokens, Ins), 1), _dy = KernelData.Random(new Shape(Tokens, Outs), 2);

        public Setup()
        {
            using Tensor values = KernelData.Random(new Shape(Outs, Ins), 3);
            _weight = Backend.Prepare(values);
            Parameters.Add("w", _weight, Backend);
        }

        public CpuBackend Backend { get; } = new(new CpuOptions(1));

        public ParameterSet Parameters { get; } = new();

        public Parameter Matrix => Parameters.All[0];

        public IGradientKernels Kernels => Backend.Gradients;

        public void Stale() => Kernels.Fill(Matrix.Gradient, 3);

        public void Add() => Parameters.AddProduct(Matrix, _dy, _x, Kernels);

        public float[] Gradient() => Rows(Matrix.Gradient);

        public float[] Values() => Rows(Matrix.Values);

        public void Dispose()
        {
            Parameters.Dispose();
            _weight.Dispose();
            _x.Dispose();
            _dy.Dispose();
            Backend.Dispose();
        }

        private float[] Rows(Tensor tensor)
        {
            using Tensor read = ParameterRows.Read(Backend, Matrix, tensor);
            return read.HostSpan<float>().ToArray();
        }
    }
}
