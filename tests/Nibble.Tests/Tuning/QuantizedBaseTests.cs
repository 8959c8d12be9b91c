using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tests.Kernels;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>Training beside every kind of quantized base.</summary>
public class QuantizedBaseTests
{
    private static readonly string Model = Path.Combine(TestData.Assets, "nibble-llama-4m");

    private static readonly Dictionary<string, QuantizationSettings> Kinds = new()
    {
        ["nf4 with double quantization"] = new() { Method = "nf4", DoubleQuant = true },
        ["nf4"] = new() { Method = "nf4", DoubleQuant = false },
        ["fp4"] = new() { Method = "fp4" },
        ["affine, 4 bit"] = new() { Method = "rtn", Bits = 4 },
        ["affine, 3 bit, symmetric"] = new() { Method = "rtn", Bits = 3, Symmetric = true },
        ["affine, 3 bit, repaired"] = new() { Method = "rtn", Bits = 3, RepairRank = 4 },
        ["affine, 8 bit"] = new() { Method = "rtn", Bits = 8 },
        ["hqq, 4 bit"] = new() { Method = "hqq", Bits = 4, GroupSize = 32 },
        ["hqq, 2 bit"] = new() { Method = "hqq", Bits = 2, GroupSize = 16 },
        ["quanto"] = new() { Method = "quanto", Bits = 4 },
        ["int8"] = new() { Method = "int8" },
        ["ternary"] = new() { Method = "ternary" },
    };

    public static TheoryData<string> All => [.. Kinds.Keys, "gptq with act-order"];

    public static TheoryData<string> Trained => ["nf4 with double quantization", "affine, 3 bit, symmetric", "affine, 3 bit, repaired", "hqq, 4 bit", "int8", "ternary"];

    // rows, out, in: one row and many, both sides of tiles and panels. GPTQ's groups here have 32 columns.
    public static (int Rows, int Out, int In)[] Shapes => [(9, 70, 96), (1, 5, 64), (2, 33, 32), (13, 16, 128), (40, 130, 64), (300, 48, 160)];

    [Theory]
    [MemberData(nameof(All))]
    public void GradientsThroughPackedCodesAreThoseOfTheDenseValues(string kind)
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 2));
        foreach ((int rows, int outs, int ins) in Shapes)
        {
            using Tensor dy = KernelData.Random(new Shape(rows, outs), 2);
            using QuantizedWeight quantized = Quantized(kind, new Shape(outs, ins));
            using Tensor dense = quantized.Dequantize(), expected = Tensor.OnHost(new Shape(rows, ins), DType.F32), actual = Tensor.OnHost(new Shape(rows, ins), DType.F32);
            using IPackedWeight packed = backend.Prepare(quantized, kind == "ternary" ? ActivationType.Int8 : ActivationType.F32), plain = backend.Prepare(dense);
            backend.Gradients.MatMulInput(dy, packed, actual);
            backend.Gradients.MatMulInput(dy, plain, expected);
            KernelData.Close(actual, expected, 1e-5f, kind);
        }
    }

    public static TheoryData<string, string> OnEveryBackend
    {
        get
        {
            TheoryData<string, string> data = [];
            foreach (string variant in CpuVariant.All.Select(variant => variant.Name))
            {
                // Products of int8 activations are no linear function; the test above has their gradient.
                foreach (string kind in Kinds.Keys.Append("gptq with act-order").Where(kind => kind is not "int8"))
                {
                    data.Add(variant, kind);
                }
            }

            return data;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(OnEveryBackend))]
    public void GradientsThroughPackedCodesAreThoseOfTheReference(string variant, string kind)
    {
        using IBackend backend = GradientBackends.Open(variant);
        foreach ((int rows, int outs, int ins) in Shapes)
        {
            using QuantizedWeight quantized = Quantized(kind, new Shape(outs, ins));
            using Tensor dense = quantized.Dequantize(), transposed = KernelData.Transposed(dense), y = KernelData.Empty(new Shape(rows, outs));
            using IPackedWeight packed = backend.Prepare(quantized, ActivationType.F32);
            using GradientCheck check = new(backend);
            Tensor x = check.Input("x", new Shape(rows, ins), 3);
            Nibble.Ops.MatMul.Forward(check.Recording, x, packed, null, y);
            check.RunLinear(y, c =>
            {
                Tensor result = KernelData.Empty(x.Shape);
                Nibble.Ops.MatMul.Reference(c, transposed, null, result);
                return result;
            });
        }
    }

    [Theory]
    [MemberData(nameof(Trained))]
    public void AnAdapterLearnsBesideIt(string kind)
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["train.txt"], File.ReadAllText(Path.Combine(TestData.Assets, "text", "tune-train.txt"))[..1200]);
        FineTuneReport report = FineTune.Run(new FineTuneOptions
        {
            Model = Model,
            Method = "qlora",
            Quantization = Kinds[kind],
            Data = folder["train.txt"],
            EvalData = folder["train.txt"],
            Output = folder["out"],
            Lora = new LoraSettings { Rank = 4 },
            Trainer = new TrainerSettings { BatchSize = 4, MaxSeqLength = 32, MaxSteps = 5, LearningRate = 3e-3 },
        });
        Assert.True(report.After!.Loss < report.Before!.Loss - 0.01, $"{kind}: {report.Before.Loss} to {report.After.Loss}");
    }

    [Theory]
    [InlineData("dora", "nf4 with double quantization")]
    [InlineData("dora", "hqq, 4 bit")]
    [InlineData("ia3", "nf4 with double quantization")]
    [InlineData("ia3", "int8")]
    [InlineData("prefix", "nf4 with double quantization")]
    [InlineData("prefix", "affine, 4 bit")]
    [InlineData("prompt", "nf4 with double quantization")]
    [InlineData("prompt", "ternary")]
    public void OtherAdaptersLearnBesideCodesToo(string method, string kind)
    {
        using TempFolder folder = new();
        FineTuneOptions options = Options(folder, method, LoraInit.Kaiming) with { Quantization = Kinds[kind], VirtualTokens = 4 };
        FineTuneReport report = FineTune.Run(options with { Trainer = options.Trainer with { MaxSteps = 6, LearningRate = method == "dora" ? 3e-3 : 2e-2 } });
        Assert.True(report.After!.Loss < report.Before!.Loss - 0.01, $"{method} beside {kind}: {report.Before.Loss} to {report.After.Loss}");
        Assert.Contains("never dense", report.Precision, StringComparison.Ordinal);
        using LoadedModel model = LoadedModel.Load(Model, new LoadOptions { Adapter = folder["out"], Quantization = new PlanRequest(Kinds[kind]) });
        Assert.Equal(report.After.Loss, HeldOut.Nll(model.Model, Nibble.Data.TrainingSetReader.Read(folder["train.txt"], model.Tokenizer, 32)), 1e-3);
    }

    [Fact]
    public void PissaStartsAtTheBaseAndItsSavedAdapterIsPlainLora()
    {
        using TempFolder folder = new();
        FineTuneReport report = FineTune.Run(Options(folder, "lora", LoraInit.Pissa));
        FineTuneReport plain = FineTune.Run(Options(folder, "lora", LoraInit.Kaiming) with { Output = folder["plain"] });
        Assert.Equal(plain.Before!.Loss, report.Before!.Loss, 1e-3);
        Assert.Equal(plain.Plan.TrainableParameters, report.Plan.TrainableParameters);
        Assert.True(report.After!.Loss < report.Before.Loss);
        using LoadedModel model = LoadedModel.Load(Model, new LoadOptions { Adapter = folder["out"] });
        Assert.Equal(report.After.Loss, HeldOut.Nll(model.Model, Nibble.Data.TrainingSetReader.Read(folder["train.txt"], model.Tokenizer, 32)), 1e-4);
        Assert.Equal(8, Nibble.Formats.PeftConfig.Open(folder["out"]).GetInt("r"));
    }

    [Fact]
    public void LoftqStartsNearerToTheDenseBase()
    {
        using TempFolder folder = new();
        QuantizationSettings two = new() { Method = "rtn", Bits = 2, GroupSize = 64 };
        FineTuneReport zero = FineTune.Run(Options(folder, "qlora", LoraInit.Kaiming) with { Quantization = two, Output = folder["zero"] });
        FineTuneReport loftq = FineTune.Run(Options(folder, "qlora", LoraInit.Loftq) with { Quantization = two });
        Assert.True(loftq.Before!.Loss < zero.Before!.Loss - 0.02, $"{zero.Before.Loss} and {loftq.Before.Loss}");
        Nibble.IO.NibbleException error = Assert.Throws<Nibble.IO.NibbleException>(() => FineTune.Run(Options(folder, "lora", LoraInit.Loftq) with { Output = folder["no"] }));
        Assert.Contains("before quantization", error.Message, StringComparison.Ordinal);
    }

    private static FineTuneOptions Options(TempFolder folder, string method, LoraInit init)
    {
        File.WriteAllText(folder["train.txt"], File.ReadAllText(Path.Combine(TestData.Assets, "text", "tune-train.txt"))[..800]);
        return new FineTuneOptions
        {
            Model = Model,
            Method = method,
            Data = folder["train.txt"],
            EvalData = folder["train.txt"],
            Output = folder["out"],
            Lora = new LoraSettings { Rank = 4, Init = init, TargetModules = [TargetModules.AllLinear] },
            Trainer = new TrainerSettings { BatchSize = 4, MaxSeqLength = 32, MaxSteps = 2, LearningRate = 1e-3 },
        };
    }

    private static QuantizedWeight Quantized(string kind, Shape shape)
    {
        using Tensor weight = KernelData.Random(shape, 1);
        if (Kinds.TryGetValue(kind, out QuantizationSettings? settings))
        {
            IQuantizationMethod method = Registry.Method(settings.Method);
            return method.Quantize("w", weight, method.Complete(settings));
        }

        // What GPTQ with act-order leaves: the columns of a group stand anywhere in the row.
        Random random = new(4);
        Tensor codes = Tensor.OnHost(weight.Shape, DType.U8);
        random.NextBytes(codes.HostSpan<byte>());
        foreach (ref byte code in codes.HostSpan<byte>())
        {
            code &= 15;
        }

        int ins = (int)shape[1];
        float[] scales = [.. Enumerable.Range(0, (int)shape[0] * ins / 32).Select(_ => 0.01f + (float)random.NextDouble())], zeros = [.. scales.Select(_ => (float)random.Next(16))];
        int[] groups = [.. Enumerable.Range(0, ins).Select(i => i * 7 % ins / 32)];
        return new AffineWeight(codes, 4, 32, scales, zeros, columnGroups: groups);
    }
}
