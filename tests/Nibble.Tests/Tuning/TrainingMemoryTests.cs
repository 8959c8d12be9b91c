using Nibble.Formats;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>The estimate of a training's memory against what the training says it took.</summary>
public class TrainingMemoryTests
{
    [Theory]
    [InlineData("nibble-llama-4m", "lora", false)]
    [InlineData("nibble-llama-4m", "full", true)]
    [InlineData("nibble-gpt2-10m", "qlora", false)]
    [InlineData("nibble-gpt2-10m", "qlora", true)]
    [InlineData("nibble-gpt2-10m", "prefix", false)]
    [InlineData("nibble-gpt2-10m", "qat", false)]
    [InlineData("nibble-llama-4m", "bitnet", true)]
    public void ItIsWhatIsAllocated(string name, string method, bool checkpointing)
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["train.txt"], File.ReadAllText(Path.Combine(TestData.Assets, "text", "tune-train.txt"))[..4000]);
        FineTuneOptions options = new()
        {
            Model = Path.Combine(TestData.Assets, name),
            Method = method,
            Data = folder["train.txt"],
            Lora = new LoraSettings { Rank = 4, TargetModules = ["all-linear"] },
            Trainer = new TrainerSettings { BatchSize = 2, MaxSeqLength = 64, MaxSteps = 2, GradientCheckpointing = checkpointing },
            Output = folder["out"],
        };
        FineTuneReport report = FineTune.Run(options);
        long process = report.Plan.Memory.Lines.Single(line => line.Part == "process").Bytes;
        long expected = report.Plan.Memory.TotalBytes - process, taken = report.WeightBytes + report.StateBytes;
        // Small as these are, whole chunks of the workspace and padded packings count; large trainings are in docs/estimate.md.
        Assert.InRange(taken / (double)expected, 0.8, 1.25);
        Assert.Equal(report.Plan.TrainableParameters, FineTunePlan.Of(ModelConfig.Open(options.Model), options).TrainableParameters);
    }
}
