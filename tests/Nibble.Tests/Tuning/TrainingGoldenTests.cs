using Nibble.Backends.Cpu;
using Nibble.Formats;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

public class TrainingGoldenTests
{
    [Theory]
    [InlineData("gpt2", false)]
    [InlineData("gpt2", true)]
    [InlineData("llama", false)]
    [InlineData("llama", true)]
    public void GradientsAreThoseOfPyTorch(string name, bool checkpoint)
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 2));
        using GoldenTraining golden = new(name, backend);
        using ParameterSet parameters = golden.AllParameters();
        using TrainingPass pass = new(golden.Model, parameters, checkpoint);
        TrainingBatch batch = golden.Batches[0];
        double loss = pass.Run(batch, 1f / batch.ScoredTokens) / batch.ScoredTokens;
        Assert.Equal(golden.Losses[0], loss, 1e-4);

        using TempFolder folder = new();
        using SafetensorsFile file = SafetensorsFile.Open(TestData.Unpacked(folder, "training", name, "gradients-step-1.safetensors"));
        Dictionary<string, float[]> expected = file.Entries.Keys.ToDictionary(key => key, key => Expected(file, key, golden));
        double largest = expected.Values.Max(Norm);
        foreach (Parameter parameter in parameters.All)
        {
            float[] e = expected[parameter.Name], a = golden.Logical(parameter, parameter.Gradient);
            double error = Norm([.. a.Zip(e, (x, y) => x - y)]);
            Assert.True(error <= (1e-3 * Norm(e)) + (1e-6 * largest), $"{parameter.Name}: |Δg| {error}, |g| {Norm(e)}");
        }

        Assert.Equal(expected.Count, parameters.All.Count);
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("llama")]
    public void TenStepsOfAdamWAreThoseOfPyTorch(string name)
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 2));
        using GoldenTraining golden = new(name, backend);
        using ParameterSet parameters = golden.AllParameters();
        using TrainingPass pass = new(golden.Model, parameters);
        using AdamW optimizer = new(parameters, backend, new OptimizerSettings { WeightDecay = 0.01f });
        for (int step = 0; step < golden.Batches.Length; step++)
        {
            TrainingBatch batch = golden.Batches[step];
            optimizer.ClearGradients();
            Assert.Equal(golden.Losses[step], pass.Run(batch, 1f / batch.ScoredTokens) / batch.ScoredTokens, 1e-4);
            optimizer.Step(1e-3, 1);
        }

        foreach (Parameter parameter in parameters.All)
        {
            float[] values = golden.Logical(parameter, parameter.Values);
            // A bias of keys shifts all scores of a query alike: its true gradient is 0, and AdamW makes steps out of rounding noise.
            double tolerance = parameter.Name.EndsWith("c_attn.bias", StringComparison.Ordinal) ? 20 : 1;
            Assert.Equal(golden.FinalNorms[parameter.Name], Norm(values), tolerance * 1e-4 * golden.FinalNorms[parameter.Name]);
            Assert.Equal(
                golden.FinalSums[parameter.Name], values.Sum(value => (double)value), tolerance * 1e-3 * (1 + Math.Abs(golden.FinalSums[parameter.Name])));
        }
    }

    private static float[] Expected(SafetensorsFile file, string name, GoldenTraining golden)
    {
        using Tensor stored = file.Load(name);
        bool transposed = golden.Architecture.Linears(golden.Config).Any(spec => spec.WeightName == name && spec.StoredTransposed);
        using Tensor logical = transposed ? Transpose.Of(stored) : stored.To(DType.F32);
        return logical.HostSpan<float>().ToArray();
    }

    private static double Norm(float[] values) => Math.Sqrt(values.Sum(value => (double)value * value));
}
