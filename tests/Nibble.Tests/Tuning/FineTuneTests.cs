using System.Text.Json;
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
    [InlineData("lora", OptimizerKind.AdamW, false)]
    [InlineData("qlora", OptimizerKind.AdamW8Bit, true)]
    [InlineData("full", OptimizerKind.Sgd, false)]
    [InlineData("dora", OptimizerKind.AdamW, true)]
    [InlineData("full", OptimizerKind.Muon, false)]
    [InlineData("qat", OptimizerKind.Muon, true)]
    [InlineData("ia3", OptimizerKind.AdamW, false)]
    [InlineData("prefix", OptimizerKind.AdamW8Bit, false)]
    [InlineData("prompt", OptimizerKind.AdamW, false)]
    [InlineData("qat", OptimizerKind.AdamW8Bit, false)]
    [InlineData("bitnet", OptimizerKind.AdamW, true)]
    public void AnInterruptedTrainingThatGoesOnEqualsOneThatWasNot(string method, OptimizerKind optimizer, bool paged)
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, method) with { Output = folder["whole"], VirtualTokens = 5 };
        options = options with { Trainer = options.Trainer with { Optimizer = new OptimizerSettings { Kind = optimizer, Paged = paged, Momentum = 0.5f } } };
        FineTuneReport whole = FineTune.Run(options);
        Assert.Equal(4, whole.Log.Count);

        using CancellationTokenSource stop = new();
        FineTuneReport first = FineTune.Run(options with { Output = folder["parts"] }, step => Stop(step, stop), cancellation: stop.Token);
        Assert.True(first.Interrupted);
        FineTuneReport second = FineTune.Run(options with { Output = folder["parts"], Resume = true });
        Assert.True(whole.Log[^1].Step == 4 && second.Log.Count == 2);
        Assert.Equal(whole.Log.Select(step => step.Loss), first.Log.Concat(second.Log).Select(step => step.Loss));
        string weights = method is "full" or "qat" or "bitnet" ? "model.safetensors" : PeftConfig.WeightsName;
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["whole"], weights)), File.ReadAllBytes(Path.Combine(folder["parts"], weights)));
    }

    [Fact]
    public void AStreamedTrainingThatGoesOnEqualsOneThatWasNot()
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, "lora") with { Output = folder["whole"], Streaming = true };
        options = options with { Trainer = options.Trainer with { MaxSteps = 4 } };
        FineTuneReport whole = FineTune.Run(options);
        using CancellationTokenSource stop = new();
        FineTune.Run(options with { Output = folder["parts"] }, step => Stop(step, stop), cancellation: stop.Token);
        FineTuneReport second = FineTune.Run(options with { Output = folder["parts"], Resume = true });
        Assert.Equal(whole.Log.TakeLast(2).Select(step => step.Loss), second.Log.Select(step => step.Loss));
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["whole"], PeftConfig.WeightsName)), File.ReadAllBytes(Path.Combine(folder["parts"], PeftConfig.WeightsName)));
        Assert.Contains("--max-steps", Assert.Throws<NibbleException>(() => FineTune.Run(options with { Output = folder["x"], Trainer = options.Trainer with { MaxSteps = null } })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATrainingFromScratchStartsAtRandomNumbersOfItsSeed()
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, "full") with { FromScratch = true, EvalData = folder["train.txt"], Output = folder["one"] };
        options = options with { Trainer = options.Trainer with { LearningRate = 1e-3 } };
        FineTuneReport one = FineTune.Run(options), two = FineTune.Run(options with { Output = folder["two"] });
        FineTuneReport other = FineTune.Run(options with { Output = folder["other"], Trainer = options.Trainer with { Seed = 5 } });
        // A model that knows nothing gives every token of its vocabulary about the same chance.
        Assert.Equal(Math.Log(8192), one.HeldOutBefore!.Value, 0.15);
        Assert.True(one.HeldOutAfter < one.HeldOutBefore);
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["one"], "model.safetensors")), File.ReadAllBytes(Path.Combine(folder["two"], "model.safetensors")));
        Assert.NotEqual(one.HeldOutBefore, other.HeldOutBefore);
        Assert.Equal(one.HeldOutBefore, two.HeldOutBefore);

        FineTune.Run(options with { Output = folder["saved"], Trainer = options.Trainer with { SaveSteps = 2 } });
        Directory.Delete(Directory.EnumerateDirectories(folder["saved"], "checkpoint-*").MaxBy(path => int.Parse(path[(path.LastIndexOf('-') + 1)..], System.Globalization.CultureInfo.InvariantCulture))!, recursive: true);
        FineTune.Run(options with { Output = folder["saved"], Resume = true, Trainer = options.Trainer with { SaveSteps = 2 } });
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["one"], "model.safetensors")), File.ReadAllBytes(Path.Combine(folder["saved"], "model.safetensors")));
        Assert.Contains("--method full", Assert.Throws<NibbleException>(() => FineTune.Run(options with { Method = "lora", Output = folder["x"] })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Gpt2FromScratchStartsAsTransformersStartsIt()
    {
        ModelConfig config = ModelConfig.Open(Path.Combine(TestData.Assets, "nibble-gpt2-10m"));
        using FreshWeightSource weights = new(config, Registry.Architecture(config), Nibble.Tensors.DType.F32, 1);
        using Nibble.Backends.Cpu.CpuBackend backend = new();
        double Deviation(string path)
        {
            LinearSpec spec = Registry.Architecture(config).Linears(config).First(item => item.Path == path);
            using Nibble.Backends.IPackedWeight matrix = weights.Linear(spec, backend);
            using Nibble.Tensors.Tensor dense = ParameterRows.Dense(backend, matrix);
            return Math.Sqrt(dense.HostSpan<float>().ToArray().Average(value => (double)value * value));
        }

        Assert.Equal(0.02, Deviation("transformer.h.3.attn.c_attn"), 2e-4);
        Assert.Equal(0.02, Deviation("transformer.wte"), 2e-4);
        Assert.Equal(0.02 / Math.Sqrt(20), Deviation("transformer.h.3.mlp.c_proj"), 1e-4);
        Assert.Equal(0.02 / Math.Sqrt(20), Deviation("transformer.h.0.attn.c_proj"), 1e-4);
        using Nibble.Tensors.Tensor norm = weights.Tensor("transformer.ln_f.weight"), bias = weights.Tensor("transformer.h.0.mlp.c_fc.bias");
        Assert.All(norm.HostSpan<float>().ToArray(), value => Assert.Equal(1, value));
        Assert.All(bias.HostSpan<float>().ToArray(), value => Assert.Equal(0, value));
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

        // The same shapes with one other byte are another base; the same files in another place are not.
        Directory.CreateDirectory(folder["base"]);
        Array.ForEach(Directory.GetFiles(Model), file => File.Copy(file, Path.Combine(folder["base"], Path.GetFileName(file))));
        FineTuneOptions elsewhere = options with { Resume = true, Model = folder["base"] };
        FineTune.Run(elsewhere);
        using (FileStream weights = File.OpenWrite(Path.Combine(folder["base"], "model.safetensors")))
        {
            weights.Seek(-3, SeekOrigin.End);
            weights.WriteByte(1);
        }

        Assert.Contains("base: was", Assert.Throws<NibbleException>(() => FineTune.Run(elsewhere)).Message, StringComparison.Ordinal);
        Assert.Contains("eval_split: was ", Assert.Throws<NibbleException>(() => FineTune.Run(options with { Resume = true, EvalSplit = "test" })).Message, StringComparison.Ordinal);

        File.AppendAllText(Path.Combine(folder["out"], "checkpoint-4", "optimizer.safetensors"), "x");
        Assert.Contains("optimizer.safetensors", Assert.Throws<NibbleException>(() => FineTune.Run(options with { Resume = true })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnAdapterIsUsedWhereAModelIsLoaded()
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, "lora") with { Output = folder["out"], EvalData = folder["train.txt"] };
        // A second training into the same folder, also one that would replace it, is refused while the first runs.
        FineTuneReport report = FineTune.Run(options, _ => Assert.Equal(ErrorKind.Resource, Assert.Throws<NibbleException>(() => FineTune.Run(options with { Force = true })).Kind));
        Assert.True(report.HeldOutAfter < report.HeldOutBefore);
        using LoadedModel with = LoadedModel.Load(Model, new LoadOptions { Adapter = folder["out"] }), without = LoadedModel.Load(Model);
        TrainingSet data = TrainingSetReader.Read(folder["train.txt"], with.Tokenizer, 32);
        Assert.Equal(report.HeldOutAfter!.Value, HeldOut.Nll(with.Model, data), 1e-6);
        Assert.Equal(report.HeldOutBefore!.Value, HeldOut.Nll(without.Model, data), 1e-6);
    }

    [Fact]
    public void WhatHappenedStandsBesideTheAdapter()
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, "lora") with { Output = folder["out"], EvalData = folder["train.txt"] };
        FineTuneReport report = FineTune.Run(options with { Trainer = options.Trainer with { EvalSteps = 2 } });
        JsonElement[] lines = [.. File.ReadAllLines(Path.Combine(folder["out"], "training_log.jsonl")).Select(line => JsonDocument.Parse(line).RootElement)];
        JsonElement[] steps = [.. lines.Where(line => line.TryGetProperty("learning_rate", out _))], evaluations = [.. lines.Where(line => line.TryGetProperty("eval_loss", out _))];
        Assert.Equal([1, 2, 3, 4], steps.Select(line => line.GetProperty("step").GetInt32()));
        Assert.Equal(report.Log.Select(step => step.Loss), steps.Select(line => line.GetProperty("loss").GetDouble()));
        Assert.Equal(report.Evaluations.Select(item => item.Loss), evaluations.Select(line => line.GetProperty("eval_loss").GetDouble()));

        System.Xml.Linq.XElement[] curves = [.. System.Xml.Linq.XDocument.Load(Path.Combine(folder["out"], "loss.svg")).Descendants().Where(element => element.Name.LocalName == "polyline")];
        Assert.Equal([4, evaluations.Length], curves.Select(curve => curve.Attribute("points")!.Value.Split(' ').Length));
    }

    [Theory]
    [InlineData("test.txt", 3e-2, false)]
    [InlineData("tune-train.txt", 1e-2, true)]
    public void ATrainingThatGetsWorseStopsAndKeepsTheBest(string heldOut, double rate, bool improves)
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, "lora") with { Output = folder["out"], EvalData = folder["other.txt"] };
        File.WriteAllText(folder["other.txt"], File.ReadAllText(Path.Combine(TestData.Assets, "text", heldOut))[1500..3000]);
        FineTuneReport report = FineTune.Run(options with { Trainer = options.Trainer with { MaxSteps = 60, LearningRate = rate, EvalSteps = 1, EarlyStopping = 3 } });
        Assert.True(report.StoppedEarly);
        Assert.True(report.Log.Count < 60);
        double best = report.Evaluations.Min(item => item.Loss);
        Assert.True(report.Evaluations[^1].Loss > best, $"the last measurement {report.Evaluations[^1].Loss} is the best");
        Assert.Equal(improves, best < report.Before!.Loss);
        Assert.Equal(best, report.After!.Loss, 1e-9);
        using LoadedModel saved = LoadedModel.Load(Model, new LoadOptions { Adapter = folder["out"] });
        Assert.Equal(best, HeldOut.Nll(saved.Model, TrainingSetReader.Read(folder["other.txt"], saved.Tokenizer, 32)), 1e-6);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AClassifierLearnsWithItsHeadAndIsLoadedWithItsLabels(bool packing)
    {
        using TempFolder folder = new();
        string[] words = ["alpha", "return", "import"];
        string Row(int i) => $$"""{"text": "{{words[i % 3]}} number {{i}}", "label": "class {{words[i % 3]}}"}""";
        File.WriteAllLines(folder["train.jsonl"], Enumerable.Range(0, 60).Select(Row));
        File.WriteAllLines(folder["val.jsonl"], Enumerable.Range(60, 30).Select(Row));
        FineTuneOptions options = Options(folder, "lora") with
        {
            Classification = true, Data = folder["train.jsonl"], EvalData = folder["val.jsonl"], Output = folder["out"],
        };
        options = options with { Trainer = options.Trainer with { BatchSize = 12, MaxSteps = 20, LearningRate = 5e-3, EvalSteps = 5, EarlyStopping = 2, Packing = packing } };
        FineTuneReport report = FineTune.Run(options);
        Assert.Equal(["class alpha", "class import", "class return"], report.Labels);
        Assert.True(report.After!.Accuracy > 0.95 && report.After.MacroF1 > 0.95, $"{report.After}");
        Assert.Equal(3L * 256, report.Plan.TrainableParameters - FineTunePlan.Of(ModelConfig.Open(Model), options with { Classification = false }).TrainableParameters);

        using LoadedModel model = LoadedModel.Load(Model, new LoadOptions { Adapter = folder["out"] });
        Assert.Equal(report.Labels, model.LabelNames);
        float[] scores = SequenceClassifier.Scores(model.Model, [model.Tokenizer.Encode("import number 999")])[0];
        Assert.Equal(1, Array.IndexOf(scores, scores.Max()));

        File.AppendAllText(folder["val.jsonl"], """{"text": "x", "label": "nothing"}""");
        NibbleException error = Assert.Throws<NibbleException>(() => FineTune.Run(options with { Force = true }));
        Assert.Contains("val.jsonl line 31: label 'nothing' is none of class alpha", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FullTrainingStartsAtStoredCodesAndRunsInBf16()
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, "full");
        FineTuneReport four = FineTune.Run(options with { Output = folder["four"], Quantization = new Nibble.Quantization.QuantizationSettings { Method = "nf4" }, EvalData = folder["train.txt"] });
        Assert.Contains("starts at the values of nf4", four.Precision, StringComparison.Ordinal);
        Assert.True(four.After!.Loss < four.Before!.Loss);
        using LoadedModel tuned = LoadedModel.Load(folder["four"]), quantized = LoadedModel.Load(Model, new LoadOptions { Quantization = new Nibble.Quantization.PlanRequest(new Nibble.Quantization.QuantizationSettings { Method = "nf4" }) });
        TrainingSet data = TrainingSetReader.Read(folder["train.txt"], tuned.Tokenizer, 32);
        Assert.Equal(four.Before.Loss, HeldOut.Nll(quantized.Model, data), 1e-4);
        Assert.Equal(four.After.Loss, HeldOut.Nll(tuned.Model, data), 1e-5);

        FineTuneReport half = FineTune.Run(options with { Output = folder["half"], WeightDtype = Nibble.Tensors.DType.BF16, EvalData = folder["train.txt"] });
        Assert.Contains("F32 master weights", half.Precision, StringComparison.Ordinal);
        using LoadedModel saved = LoadedModel.Load(folder["half"]);
        Assert.Equal(half.After!.Loss, HeldOut.Nll(saved.Model, data), 1e-3);
    }

    [Theory]
    [InlineData("lora")]
    [InlineData("qlora")]
    [InlineData("full")]
    public void ProductsInBf16StayNearF32AndGoOnAnywhere(string method)
    {
        using TempFolder folder = new();
        FineTuneOptions floats = Options(folder, method) with { Output = folder["f32"], EvalData = folder["train.txt"], Threads = 1 };
        floats = floats with { Trainer = floats.Trainer with { BatchSize = 4, MaxSteps = 6, LearningRate = method == "full" ? 1e-4 : 1e-3 } };
        FineTuneOptions halves = floats with { Activations = Nibble.Tensors.DType.BF16, Output = folder["one"] };
        FineTuneReport full = FineTune.Run(floats), one = FineTune.Run(halves), two = FineTune.Run(halves with { Output = folder["two"], Threads = 2 });
        FineTuneReport other = FineTune.Run(floats with { Output = folder["other"], Trainer = floats.Trainer with { Seed = 5 } });
        Assert.Contains("in BF16 with sums in F32", one.Precision, StringComparison.Ordinal);
        Assert.NotEqual(full.Log.Select(step => step.Loss), one.Log.Select(step => step.Loss));
        Assert.Equal(one.Log.Select(step => step.Loss), two.Log.Select(step => step.Loss));

        // Rounding moves a loss by less than another order of the rows does.
        double spread = full.Log.Zip(other.Log).Max(pair => Math.Abs(pair.First.Loss - pair.Second.Loss));
        Assert.All(full.Log.Zip(one.Log), pair => Assert.True(Math.Abs(pair.First.Loss - pair.Second.Loss) < spread / 4, $"step {pair.First.Step}: {pair.First.Loss} and {pair.Second.Loss}, spread {spread}"));
        Assert.Equal(full.HeldOutAfter!.Value, one.HeldOutAfter!.Value, spread / 4);

        using CancellationTokenSource stop = new();
        FineTune.Run(halves with { Output = folder["parts"] }, step => Stop(step, stop), cancellation: stop.Token);
        Assert.Contains("activations", Assert.Throws<NibbleException>(() => FineTune.Run(floats with { Output = folder["parts"], Resume = true })).Message, StringComparison.Ordinal);
        FineTune.Run(halves with { Output = folder["parts"], Resume = true, Threads = 2, Trainer = halves.Trainer with { GradientCheckpointing = true } });
        string weights = method == "full" ? "model.safetensors" : PeftConfig.WeightsName;
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["one"], weights)), File.ReadAllBytes(Path.Combine(folder["two"], weights)));
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["one"], weights)), File.ReadAllBytes(Path.Combine(folder["parts"], weights)));
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
