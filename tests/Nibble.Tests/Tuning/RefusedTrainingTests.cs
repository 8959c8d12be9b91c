using Nibble.Formats;
using Nibble.IO;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>Numbers with which a training would end well and have learned nothing are refused before any work.</summary>
public class RefusedTrainingTests
{
    public static TheoryData<string, TrainerSettings, double> Senseless => new()
    {
        { "--max-steps -2", new TrainerSettings { MaxSteps = -2 }, 16 },
        { "--max-steps 0", new TrainerSettings { MaxSteps = 0 }, 16 },
        { "--learning-rate 0", new TrainerSettings { LearningRate = 0 }, 16 },
        { "--learning-rate -1", new TrainerSettings { LearningRate = -1 }, 16 },
        { "--learning-rate NaN", new TrainerSettings { LearningRate = double.NaN }, 16 },
        { "--warmup-steps -1", new TrainerSettings { WarmupSteps = -1 }, 16 },
        { "0 rows", new TrainerSettings { BatchSize = 0 }, 16 },
        { "8 rows, 0 passes", new TrainerSettings { GradAccumulationSteps = 0 }, 16 },
        { "8 rows, 1 passes a step, 1 tokens", new TrainerSettings { MaxSeqLength = 1 }, 16 },
        { "8 rows, 1 passes a step, 512 tokens and NaN", new TrainerSettings { Epochs = double.NaN }, 16 },
        { "--alpha 0", new TrainerSettings(), 0 },
        { "--alpha -4", new TrainerSettings(), -4 },
    };

    [Theory]
    [MemberData(nameof(Senseless))]
    public void NumbersThatTeachNothing(string expected, TrainerSettings trainer, double alpha)
    {
        string model = Path.Combine(TestData.Assets, "nibble-gpt2-10m");
        FineTuneOptions options = new() { Model = model, Lora = new LoraSettings { Alpha = alpha }, Trainer = trainer };
        NibbleException error = Assert.Throws<NibbleException>(() => FineTunePlan.Of(ModelConfig.Open(model), options));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.StartsWith(expected, error.What, StringComparison.Ordinal);
    }

    [Fact]
    public void AnInterruptionBeforeTheFirstStepLeavesNoFolder()
    {
        using TempFolder folder = new();
        string data = folder["data.txt"];
        File.WriteAllText(data, string.Concat(Enumerable.Repeat("def add(a, b):\n    return a + b\n", 20)));
        FineTuneOptions options = new()
        {
            Model = Path.Combine(TestData.Assets, "nibble-llama-4m"), Data = data, EvalData = data, Output = folder["tuned"],
            Trainer = new TrainerSettings { MaxSteps = 1, MaxSeqLength = 16 },
        };
        Assert.ThrowsAny<OperationCanceledException>(() => FineTune.Run(options, _ => Assert.Fail("a step ran"), cancellation: new CancellationToken(canceled: true)));
        Assert.Equal(["data.txt"], folder.Entries);
    }

    [Fact]
    public void WhatIsMissingOrUnknown()
    {
        FineTuneOptions options = new() { Model = Path.Combine(TestData.Assets, "nibble-gpt2-10m"), Data = "text.txt", Output = "out" };
        foreach ((FineTuneOptions wrong, string what) in new[]
        {
            (options with { Method = "lorra" }, "unknown tuning method 'lorra'"),
            (options with { Data = null }, "there is no data"),
            (options with { Output = null }, "there is no output"),
            (options with { Lora = new LoraSettings { Rank = 0 } }, "a rank of 0"),
            (options with { Method = "prompt", VirtualTokens = 0 }, "virtual tokens"),
        })
        {
            NibbleException error = Assert.Throws<NibbleException>(() => FineTune.Run(wrong));
            Assert.Equal(ErrorKind.Usage, error.Kind);
            Assert.Contains(what, error.What, StringComparison.Ordinal);
        }
    }
}
