using Nibble.Data;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tokenization;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>The whole way from text to adapter, on the smaller embedded model.</summary>
public class FineTuneTests
{
    private static readonly string Model = Path.Combine(TestData.Assets, "nibble-llama-4m");

    [Theory]
    [InlineData("lora")]
    [InlineData("qlora")]
    [InlineData("full")]
    public void AnInterruptedTrainingThatGoesOnEqualsOneThatWasNot(string method)
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, method) with { Output = folder["whole"] };
        FineTuneReport whole = FineTune.Run(options);
        Assert.Equal(4, whole.Log.Count);

        using CancellationTokenSource stop = new();
        FineTuneReport first = FineTune.Run(options with { Output = folder["parts"] }, step => Stop(step, stop), cancellation: stop.Token);
        Assert.True(first.Interrupted);
        FineTuneReport second = FineTune.Run(options with { Output = folder["parts"], Resume = true });
        Assert.Equal(whole.Log.Select(step => step.Loss), first.Log.Concat(second.Log).Select(step => step.Loss));
        string weights = method == "full" ? "model.safetensors" : PeftConfig.WeightsName;
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["whole"], weights)), File.ReadAllBytes(Path.Combine(folder["parts"], weights)));
    }

    [Fact]
    public void OtherSettingsAreNotResumed()
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, "lora") with { Output = folder["out"] };
        options = options with { Trainer = options.Trainer with { SaveSteps = 2 } };
        FineTune.Run(options);
        NibbleException error = Assert.Throws<NibbleException>(() =>
            FineTune.Run(options with { Resume = true, Trainer = options.Trainer with { LearningRate = 1e-4, BatchSize = 3 } }));
        Assert.Contains("learning_rate: was 0.001, is 0.0001", error.Message, StringComparison.Ordinal);
        Assert.Contains("batch_size: was 2, is 3", error.Message, StringComparison.Ordinal);

        File.AppendAllText(Path.Combine(folder["out"], "checkpoint-4", "optimizer.safetensors"), "x");
        Assert.Contains("optimizer.safetensors", Assert.Throws<NibbleException>(() => FineTune.Run(options with { Resume = true })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnAdapterIsUsedWhereAModelIsLoaded()
    {
        using TempFolder folder = new();
        FineTuneReport report = FineTune.Run(Options(folder, "lora") with { Output = folder["out"], EvalData = folder["train.txt"] });
        Assert.True(report.HeldOutAfter < report.HeldOutBefore);
        using LoadedModel with = LoadedModel.Load(Model, new LoadOptions { Adapter = folder["out"] }), without = LoadedModel.Load(Model);
        TrainingSet data = TrainingSetReader.Read(folder["train.txt"], with.Tokenizer, 32);
        Assert.Equal(report.HeldOutAfter!.Value, HeldOut.Nll(with.Model, data), 1e-6);
        Assert.Equal(report.HeldOutBefore!.Value, HeldOut.Nll(without.Model, data), 1e-6);
    }

    [Fact]
    public void OnlyCompletionsAreScored()
    {
        Tokenizer tokenizer = TokenizerLoader.FromFolder(Model);
        using TempFolder folder = new();
        File.WriteAllText(folder["rows.jsonl"], """
            {"prompt": "def add(a, b):", "completion": " return a + b"}
            {"instruction": "Add.", "input": "1 2", "output": "3"}
            {"text": "import os"}
            """);
        TrainingSet set = TrainingSetReader.Read(folder["rows.jsonl"], tokenizer, 64);
        Assert.Equal(3, set.Rows.Count);
        int prompt = tokenizer.Encode("def add(a, b):").Length;
        Assert.All(set.Rows[0].Targets.Take(prompt - 1), target => Assert.Equal(-1, target));
        Assert.Equal(" return a + b", tokenizer.Decode([.. set.Rows[0].Targets.Skip(prompt - 1).SkipLast(1)]));
        Assert.Equal(tokenizer.EosId, set.Rows[0].Targets[^1]);

        File.WriteAllText(folder["rows.jsonl"], "{\"text\": \"a b c d\"}\n{\"txt\": 1}\nnot json\n");
        NibbleException error = Assert.Throws<NibbleException>(() => TrainingSetReader.Read(folder["rows.jsonl"], tokenizer, 64));
        Assert.Contains("rows.jsonl line 2", error.Message, StringComparison.Ordinal);
        Assert.Contains("rows.jsonl line 3", error.Message, StringComparison.Ordinal);
        Assert.Equal(2, TrainingSetReader.Read(folder["rows.jsonl"], tokenizer, 64, skipBad: true).Skipped);
    }

    private static void Stop(StepReport step, CancellationTokenSource stop)
    {
        if (step.Step == 2)
        {
            stop.Cancel();
        }
    }

    private static FineTuneOptions Options(TempFolder folder, string method)
    {
        string text = File.ReadAllText(Path.Combine(TestData.Assets, "text", "tune-train.txt"))[..1500];
        File.WriteAllText(folder["train.txt"], text);
        return new FineTuneOptions
        {
            Model = Model,
            Method = method,
            Data = folder["train.txt"],
            Lora = new LoraSettings { Rank = 4, Dropout = 0.1 },
            Trainer = new TrainerSettings { BatchSize = 2, MaxSeqLength = 32, MaxSteps = 4, LearningRate = 1e-3 },
        };
    }
}
