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
    private const double Tolerance = 1e-5, HalfTolerance = 0.02;

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

    /// <summary>Products and caches of BF16, or a cache of 8 bits; in one pass, in short ones, and token by token.</summary>
    [SkippableTheory]
    [InlineData("gpt2", KvCacheType.F32)]
    [InlineData("llama", KvCacheType.F32)]
    [InlineData("mistral-window", KvCacheType.F32)]
    [InlineData("mistral-window", KvCacheType.Int8)]
    [InlineData("qwen3", KvCacheType.F32)]
    public void LogitsInBF16AreNearTheReference(string name, KvCacheType cache)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using CudaBackend backend = new(new EmulatedDevice(), DType.BF16);
        using GoldenModel golden = new(Path.Combine("models", name), backend, DType.BF16);
        golden.Model.CacheType = cache;
        GoldenRun run = golden.Runs[0];
        float[][][] expected = [.. run.Logits.EnumerateArray().Select(row => row.EnumerateArray().Select(GoldenRun.Floats).ToArray())];
        float[][][] actual = ModelRun.Batched(golden.Model, run.Rows, left: run.Name == "padded-left");
        Assert.InRange(ModelRun.Error(actual.SelectMany(row => row), expected.SelectMany(row => row)), 0, HalfTolerance);
        foreach (int step in new[] { 1, 3 })
        {
            Assert.InRange(ModelRun.Error(ModelRun.Cached(golden.Model, run.Rows[0], step), expected[0]), 0, HalfTolerance);
        }
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
