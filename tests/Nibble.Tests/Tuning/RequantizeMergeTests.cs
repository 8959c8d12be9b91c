using Nibble.Data;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tuning;
using Nibble.Tuning.Merging;

namespace Nibble.Tests.Tuning;

/// <summary>An adapter merged back into the quantized format of its base.</summary>
public sealed class RequantizeMergeTests : IDisposable
{
    private static readonly string Model = Path.Combine(TestData.Assets, "nibble-llama-4m");
    private readonly TempFolder _folder = new();

    public RequantizeMergeTests()
    {
        string text = File.ReadAllText(Path.Combine(TestData.Assets, "text", "tune-train.txt"));
        File.WriteAllText(_folder["train.txt"], text[..8_000]);
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("nf4")]
    [InlineData("rtn")]
    public void MostOfTheGainSurvivesInAFolderOfTheSameForm(string method)
    {
        Prepare(method);
        RequantizeOptions options = Options with { Samples = 12, Remainder = _folder["remainder"], RemainderRank = 4 };
        MergeReport report = RequantizeMerge.Run(options);
        Assert.True(report.Adapter.Nll < report.Base.Nll - 0.02, $"the adapter gains nothing: {report.Base.Nll} -> {report.Adapter.Nll}");
        Assert.True(report.Merged.GainKept > report.Naive.GainKept + 0.1, $"naive {report.Naive.GainKept:P1}, merged {report.Merged.GainKept:P1}");
        Assert.True(report.Merged.Kl < report.Naive.Kl);

        // What was measured is what was written, and the record's digests are those of the new codes.
        using LoadedModel merged = LoadedModel.Load(_folder["merged"]);
        TrainingSet rows = TrainingSetReader.Read(_folder["train.txt"], merged.Tokenizer, 64);
        TrainingSet held = rows with { Rows = [.. rows.Rows.Where((_, i) => i % 8 == 7)] };
        Assert.Equal(report.Merged.Nll, HeldOut.Nll(merged.Model, held), 1e-6);
        QuantizationCheck.Run(_folder["merged"]);
        using LoadedModel whole = LoadedModel.Load(_folder["merged"], new LoadOptions { Adapter = _folder["remainder"] });
        Assert.Equal(report.Remainder!.Nll, HeldOut.Nll(whole.Model, held), 1e-5);
        Assert.True(report.Remainder.Kl < report.Merged.Kl, $"KL with the remainder {report.Remainder.Kl}, without {report.Merged.Kl}");
        Assert.Equal(Size("base"), Size("merged"));
    }

    [Fact]
    public void TheSameMergeGivesTheSameBytesWithAnyThreads()
    {
        Prepare("nf4");
        byte[] Bytes(int threads)
        {
            RequantizeMerge.Run(Options with { Samples = 2, Threads = threads, Force = true });
            return File.ReadAllBytes(Path.Combine(_folder["merged"], "model.safetensors"));
        }

        Assert.Equal(Bytes(1), Bytes(2));
    }

    [Fact]
    public void WhatCannotBeMergedIsRefused()
    {
        Prepare("nf4");
        NibbleException dense = Assert.Throws<NibbleException>(() => RequantizeMerge.Run(Options with { Model = Model }));
        Assert.Contains("is not quantized", dense.Message, StringComparison.Ordinal);
        File.WriteAllText(_folder["short.txt"], "import os\n");
        NibbleException tooShort = Assert.Throws<NibbleException>(() => RequantizeMerge.Run(Options with { Data = _folder["short.txt"] }));
        Assert.Contains("too short to set rows aside", tooShort.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["merged"]));
    }

    private RequantizeOptions Options => new(_folder["base"], _folder["adapter"], _folder["train.txt"], _folder["merged"]) { Length = 64 };

    private void Prepare(string method)
    {
        Quantizer.Run(Model, _folder["base"], new PlanRequest(new QuantizationSettings { Method = method, Bits = 4 }));
        FineTune.Run(new FineTuneOptions
        {
            Model = _folder["base"],
            Method = "qlora",
            Data = _folder["train.txt"],
            Output = _folder["adapter"],
            Lora = new LoraSettings { Rank = 4, TargetModules = ["all-linear"] },
            Trainer = new TrainerSettings { BatchSize = 8, MaxSeqLength = 64, MaxSteps = 8, LearningRate = 8e-3 },
        });
    }

    private long Size(string folder) => new FileInfo(Path.Combine(_folder[folder], "model.safetensors")).Length;
}
