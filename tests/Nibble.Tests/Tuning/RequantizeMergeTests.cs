using Nibble.Data;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tuning;
using Nibble.Tuning.Merging;

namespace Nibble.Tests.Tuning;

/// <summary>Quantized bases with an adapter each, made once: merges only read them.</summary>
public sealed class TunedBases : IDisposable
{
    private readonly TempFolder _folder = new();

    public TunedBases() => File.WriteAllText(Data, File.ReadAllText(Path.Combine(TestData.Assets, "text", "tune-train.txt"))[..8_000]);

    /// <summary>The dense model.</summary>
    public static string Model { get; } = Path.Combine(TestData.Assets, "nibble-llama-4m");

    /// <summary>What the adapters were trained on.</summary>
    public string Data => _folder["train.txt"];

    /// <summary>The base and the adapter of a method.</summary>
    public (string Base, string Adapter) Of(string method)
    {
        (string quantized, string adapter) = (_folder[method], _folder[method + "-adapter"]);
        if (!Directory.Exists(adapter))
        {
            Quantizer.Run(Model, quantized, new PlanRequest(new QuantizationSettings { Method = method, Bits = 4 }));
            FineTune.Run(new FineTuneOptions
            {
                Model = quantized,
                Method = "qlora",
                Data = Data,
                Output = adapter,
                Lora = new LoraSettings { Rank = 4, TargetModules = ["all-linear"] },
                Trainer = new TrainerSettings { BatchSize = 8, MaxSeqLength = 64, MaxSteps = 8, LearningRate = 8e-3 },
            });
        }

        return (quantized, adapter);
    }

    public void Dispose() => _folder.Dispose();
}

/// <summary>An adapter merged back into the quantized format of its base.</summary>
public sealed class RequantizeMergeTests(TunedBases bases) : IClassFixture<TunedBases>, IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("nf4")]
    [InlineData("rtn")]
    public void MostOfTheGainSurvivesInAFolderOfTheSameForm(string method)
    {
        RequantizeOptions options = Options(method) with { Samples = 12, Remainder = _folder["remainder"], RemainderRank = 4 };
        MergeReport report = RequantizeMerge.Run(options);
        Assert.True(report.Adapter.Nll < report.Base.Nll - 0.02, $"the adapter gains nothing: {report.Base.Nll} -> {report.Adapter.Nll}");
        Assert.True(report.Merged.GainKept > report.Naive.GainKept + 0.1, $"naive {report.Naive.GainKept:P1}, merged {report.Merged.GainKept:P1}");
        Assert.True(report.Merged.Kl < report.Naive.Kl);

        // What was measured is what was written, and the record's digests are those of the new codes.
        using LoadedModel merged = LoadedModel.Load(_folder["merged"]);
        TrainingSet rows = TrainingSetReader.Read(bases.Data, merged.Tokenizer, 64);
        TrainingSet held = rows with { Rows = [.. rows.Rows.Where((_, i) => i % 8 == 7)] };
        Assert.Equal(report.Merged.Nll, HeldOut.Nll(merged.Model, held), 1e-6);
        QuantizationCheck.Run(_folder["merged"]);
        using LoadedModel whole = LoadedModel.Load(_folder["merged"], new LoadOptions { Adapter = _folder["remainder"] });
        Assert.Equal(report.Remainder!.Nll, HeldOut.Nll(whole.Model, held), 1e-5);
        Assert.True(report.Remainder.Kl < report.Merged.Kl, $"KL with the remainder {report.Remainder.Kl}, without {report.Merged.Kl}");
        Assert.Equal(Size(bases.Of(method).Base), Size(_folder["merged"]));
    }

    [Fact]
    public void TheSameMergeGivesTheSameBytesWithAnyThreads()
    {
        byte[] Bytes(int threads)
        {
            RequantizeMerge.Run(Options("nf4") with { Samples = 2, Threads = threads, Force = true });
            return File.ReadAllBytes(Path.Combine(_folder["merged"], "model.safetensors"));
        }

        Assert.Equal(Bytes(1), Bytes(2));
    }

    [Fact]
    public void WhatCannotBeMergedIsRefused()
    {
        NibbleException dense = Assert.Throws<NibbleException>(() => RequantizeMerge.Run(Options("nf4") with { Model = TunedBases.Model }));
        Assert.Contains("is not quantized", dense.Message, StringComparison.Ordinal);
        File.WriteAllText(_folder["short.txt"], "import os\n");
        NibbleException tooShort = Assert.Throws<NibbleException>(() => RequantizeMerge.Run(Options("nf4") with { Data = _folder["short.txt"] }));
        Assert.Contains("too short to set rows aside", tooShort.Message, StringComparison.Ordinal);
        NibbleException noRank = Assert.Throws<NibbleException>(() => RequantizeMerge.Run(Options("nf4") with { Remainder = _folder["remainder"], RemainderRank = 0 }));
        Assert.Contains("--remainder-rank 0", noRank.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["merged"]));
    }

    private RequantizeOptions Options(string method) => new(bases.Of(method).Base, bases.Of(method).Adapter, bases.Data, _folder["merged"]) { Length = 64 };

    private static long Size(string folder) => new FileInfo(Path.Combine(folder, "model.safetensors")).Length;
}
