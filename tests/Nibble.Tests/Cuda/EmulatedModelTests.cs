using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tests.Models;
using Nibble.Tests.Tuning;
using Nibble.Tuning;

namespace Nibble.Tests.Cuda;

/// <summary>Whole models on the emulated card: nothing but the backend knows where the numbers are.</summary>
public class EmulatedModelTests
{
    private const double Tolerance = 1e-5;

    [SkippableTheory]
    [InlineData("gpt2")]
    [InlineData("llama")]
    public void LogitsEqualTheReference(string name)
    {
        using CudaBackend backend = Open();
        using GoldenModel golden = new(Path.Combine("models", name), backend);
        GoldenRun run = golden.Runs[0];
        float[][] expected = [.. run.Logits.EnumerateArray().SelectMany(row => row.EnumerateArray().Select(GoldenRun.Floats))];
        float[][] actual = [.. ModelRun.Batched(golden.Model, run.Rows, left: run.Name == "padded-left").SelectMany(row => row)];
        Assert.InRange(ModelRun.Error(actual, expected), 0, Tolerance);
    }

    [SkippableTheory]
    [InlineData("gpt2")]
    [InlineData("llama")]
    public void AStepOfTrainingIsThatOfPyTorch(string name)
    {
        using CudaBackend backend = Open();
        using GoldenTraining golden = new(name, backend);
        using ParameterSet parameters = golden.AllParameters();
        using TrainingPass pass = new(golden.Model, parameters, checkpoint: false);
        using AdamW optimizer = new(parameters, backend, new OptimizerSettings { WeightDecay = 0.01f });
        for (int step = 0; step < 2; step++)
        {
            TrainingBatch batch = golden.Batches[step];
            optimizer.ClearGradients();
            Assert.Equal(golden.Losses[step], pass.Run(batch, 1f / batch.ScoredTokens) / batch.ScoredTokens, 1e-4);
            optimizer.Step(1e-3, 1);
        }
    }

    private static CudaBackend Open()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        return new CudaBackend(new EmulatedDevice());
    }
}
