using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

public class BlockCalibrationTests
{
    private static readonly int[][] Samples = [.. Enumerable.Range(0, 5).Select(i => Enumerable.Range(0, 12).Select(j => ((i * 31) + (j * 7) + 1) % 96).ToArray())];

    [Theory]
    [InlineData("gpt2", 4, 4)]
    [InlineData("llama", 7, 4)]
    [InlineData("qwen3", 7, 4)]
    public void EveryLayerIsVisitedInOrderAndSharedInputsShareStatistics(string name, int layers, int inputs)
    {
        using Fixture model = new(name);
        List<(string Path, GramStatistics Statistics)> seen = [];
        using BlockCalibration calibration = new(model.Model, Samples);
        calibration.Run((path, statistics) =>
        {
            seen.Add((path, statistics));
            return model.Dense(path);
        });

        string[] expected = [.. model.Specs.Where(spec => spec.Role == LinearRole.Block).Select(spec => spec.Path)];
        Assert.Equal(expected.Order(), seen.Select(item => item.Path).Order());
        Assert.Equal(layers, seen.Count / model.Model.Blocks.Count);
        Assert.Equal(inputs, seen.Take(layers).Select(item => item.Statistics.Gram).Distinct(ReferenceEqualityComparer.Instance).Count());
        Assert.All(seen, item => Assert.Equal(60, item.Statistics.Tokens));
    }

    [Fact]
    public void TheGramMatrixIsThatOfTheInputs()
    {
        // The first layer's input is the norm of the embedding: its Gram matrix can be had without the block.
        using Fixture model = new("gpt2");
        GramStatistics? first = null;
        using BlockCalibration calibration = new(model.Model, Samples, sequential: false);
        calibration.Run((path, statistics) =>
        {
            first ??= statistics;
            return model.Dense(path);
        });

        double trace = Enumerable.Range(0, first!.Columns).Sum(i => first.Gram[(i * first.Columns) + i]);
        double asymmetry = Enumerable.Range(0, first.Columns).Max(i => Math.Abs(first.Gram[(i * first.Columns) + 3] - first.Gram[(3 * first.Columns) + i]));
        Assert.True(trace > 0 && asymmetry <= 1e-4 * trace, $"trace {trace}, asymmetry {asymmetry}");
        Assert.Equal(0, first.DeadInputs);
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("llama")]
    public void IntermediatesThatAreKeptChangeNothing(string name)
    {
        // 400 samples are two batches: nothing (and hidden states in a file), all, or some of it is kept between the layers of a block.
        int[][] samples = [.. Enumerable.Range(0, 400).Select(i => Enumerable.Range(0, 12).Select(j => ((i * 17) + (j * 5)) % 96).ToArray())];
        double[][] Grams(long kept)
        {
            using Fixture model = new(name);
            List<double[]> seen = [];
            using BlockCalibration calibration = new(model.Model, samples, memoryBytes: kept);
            calibration.Run((path, statistics) =>
            {
                seen.Add(statistics.Gram);
                return model.Dense(path);
            });
            return [.. seen];
        }

        double[][] nothing = Grams(0);
        Assert.Equal(nothing, Grams(1L << 30));
        Assert.Equal(nothing, Grams(5 << 20));
    }

    [Fact]
    public void HiddenStatesIn16BitsChangeLittleAndKeptIntermediatesNothing()
    {
        int[][] samples = [.. Enumerable.Range(0, 400).Select(i => Enumerable.Range(0, 12).Select(j => ((i * 17) + (j * 5)) % 96).ToArray())];
        double[][] Grams(long kept, DType states)
        {
            using Fixture model = new("gpt2");
            List<double[]> seen = [];
            using BlockCalibration calibration = new(model.Model, samples, memoryBytes: kept, states: states);
            calibration.Run((path, statistics) =>
            {
                seen.Add(statistics.Gram);
                return model.Dense(path);
            });
            return [.. seen];
        }

        double[][] whole = Grams(1L << 30, DType.F32), half = Grams(1L << 30, DType.BF16);
        Assert.Equal(half, Grams(0, DType.BF16));
        Assert.Equal(half, Grams(5 << 20, DType.BF16));
        Assert.NotEqual(whole, half);
        Assert.All(whole.Zip(half), pair => Assert.InRange(pair.First.Zip(pair.Second, (a, b) => Math.Abs(a - b)).Max(), 0, 0.02 * pair.First.Max(Math.Abs)));
    }

    [Fact]
    public void AFeatureThatIsAlwaysZeroIsReportedAsDead()
    {
        using CpuBackend backend = new();
        GramAccumulator accumulator = new(3, backend);
        using Tensor x = Tensor.From<float>(new Shape(2, 3), DType.F32, [1, 0, 2, 3, 0, 4]);
        accumulator.Add(x);
        GramStatistics statistics = accumulator.Finish();
        Assert.Equal(1, statistics.DeadInputs);
        Assert.Equal([10.0, 0, 14, 0, 0, 0, 14, 0, 20], statistics.Gram);
    }

    private sealed class Fixture : IDisposable
    {
        private readonly CpuBackend _backend = new();
        private readonly DenseWeightSource _source;

        public Fixture(string name)
        {
            HfFolder folder = HfFolder.Open(Path.Combine(TestData.Goldens, "models", name));
            IArchitecture architecture = Registry.Architecture(folder.Config);
            _source = new DenseWeightSource(folder, architecture);
            Specs = architecture.Linears(folder.Config);
            Model = ModelBuilder.Build(folder.Config, _source, _backend);
        }

        public IReadOnlyList<LinearSpec> Specs { get; }

        public CausalModel Model { get; }

        public IPackedWeight Dense(string path) => _source.Linear(Specs.Single(spec => spec.Path == path), _backend);

        public void Dispose()
        {
            Model.Dispose();
            _source.Dispose();
            _backend.Dispose();
        }
    }
}
