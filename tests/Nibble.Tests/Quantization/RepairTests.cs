using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Tests.Quantization;

/// <summary>The low-rank repair of a quantization error: what it finds, and that it stays with its model wherever that goes.</summary>
public sealed class RepairTests : IDisposable
{
    private const int Rank = 4;
    private static readonly string Embedded = AssetFolder.Find(Path.Combine("assets", "nibble-llama-4m"));
    private static readonly QuantizationSettings Rtn = new() { Method = "rtn", Bits = 3, GroupSize = 32, RepairRank = Rank };
    private static readonly CalibrationRequest Text = new("demo") { Samples = 4, Length = 64 };

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Without_inputs_it_holds_the_largest_singular_parts_of_the_error()
    {
        using Tensor error = Methods.Input(40, 64, 3);
        using RepairSolver solver = new(null);
        using LowRankPair pair = solver.Nearest(error, Rank, 1);
        TruncatedSvd whole = TruncatedSvd.Of(error, 40, 2);
        double expected = whole.Values.Skip(Rank).Sum(value => value * value);
        pair.TakeFrom(error);
        // Random numbers have nearly equal singular values: the power iterations, and BF16, leave a little more.
        Assert.InRange(solver.Of(error), expected * 0.999, expected * 1.01);
    }

    [Fact]
    public void With_inputs_it_lessens_the_error_of_outputs_more_than_the_plain_one_does()
    {
        GramStatistics gram = Gram(64, 300);
        using Tensor plainly = Methods.Input(40, 64, 3), weighted = Methods.Input(40, 64, 3);
        using RepairSolver blind = new(null), seeing = new(gram);
        double before = seeing.Of(plainly);
        using LowRankPair plain = blind.Nearest(plainly, Rank, 1), informed = seeing.Nearest(weighted, Rank, 1);
        plain.TakeFrom(plainly);
        informed.TakeFrom(weighted);
        Assert.True(seeing.Of(weighted) < 0.5 * seeing.Of(plainly), $"{before} {seeing.Of(plainly)} {seeing.Of(weighted)}");
        Assert.True(blind.Of(plainly) < blind.Of(weighted));
    }

    [Fact]
    public void Turns_of_quantizing_and_repairing_are_never_worse_than_one()
    {
        string model = MethodTable.WriteModel(_folder["model"], "llama");
        double[] errors = [.. new[] { 1, 2, 5 }.Select(turns => Quantizer.Run(model, _folder[$"out{turns}"], new PlanRequest(Rtn with { RepairIterations = turns })).Report.RelativeError)];
        double bare = Quantizer.Run(model, _folder["bare"], new PlanRequest(Rtn with { RepairRank = null })).Report.RelativeError;
        Assert.True(errors[0] < 0.95 * bare);
        Assert.Equal(errors.OrderDescending(), errors);
        Assert.True(errors[2] < errors[0]);
    }

    [Theory]
    [InlineData("rtn", "gpt2", null)]
    [InlineData("nf4", "llama", null)]
    [InlineData("int8", "llama", null)]
    [InlineData("hqq", "gpt2", true)]
    [InlineData("gptq", "llama", null)]
    [InlineData("awq", "llama", false)]
    public void It_is_saved_loaded_counted_and_converted(string method, string modelType, bool? weighted)
    {
        string model = MethodTable.WriteModel(_folder["model"], modelType);
        PlanRequest request = new(new QuantizationSettings { Method = method, RepairRank = Rank, RepairWeighted = weighted });
        QuantizationReport report = Quantizer.Run(model, _folder["out"], request, new() { Calibration = Text }).Report;
        QuantizationReport bare = Quantizer.Run(model, _folder["bare"], new PlanRequest(new QuantizationSettings { Method = method }), new() { Calibration = Text }).Report;
        Assert.Equal(report.Tensors.Count, QuantizationCheck.Run(_folder["out"]));
        foreach ((QuantizedTensorReport with, QuantizedTensorReport without) in report.Tensors.Zip(bare.Tensors))
        {
            Assert.Equal(without.BitsPerWeight + (16.0 * Rank * (with.Shape[0] + with.Shape[1]) / (with.Shape[0] * with.Shape[1])), with.BitsPerWeight, 1e-9);
        }

        if (method is "rtn" or "nf4" or "int8")
        {
            LogitPairs.AssertEqual(_folder["out"], null, model, request);
        }

        using (LoadedModel loaded = LoadedModel.Load(_folder["out"]), plain = LoadedModel.Load(_folder["bare"]))
        {
            double share = report.Tensors.Sum(tensor => 16.0 * Rank * (tensor.Shape[0] + tensor.Shape[1])) / report.Tensors.Sum(tensor => (double)tensor.Shape[0] * tensor.Shape[1]);
            Assert.Equal(WeightSizes.Of(plain.Model).BitsPerWeight!.Value + share, WeightSizes.Of(loaded.Model).BitsPerWeight!.Value, 1e-9);
            Assert.True(loaded.Model.WeightBytes > plain.Model.WeightBytes);
            Directory.CreateDirectory(_folder["merged"]);
            MergedModel.Write(loaded.Model, loaded.Config, loaded.Path, null, DType.F32, _folder["merged"]);
        }

        ModelConverter.Convert(_folder["out"], _folder["dense"]);
        Assert.DoesNotContain(RepairFolder.Key, File.ReadAllText(Path.Combine(_folder["dense"], "config.json")), StringComparison.Ordinal);
        float tolerance = method == "int8" ? 0.1f : 1e-3f;
        Assert.All(LogitPairs.Of(_folder["out"]).Zip(LogitPairs.Of(_folder["dense"])), pair => Assert.Equal(pair.First, pair.Second, tolerance));
        Assert.All(LogitPairs.Of(_folder["merged"]).Zip(LogitPairs.Of(_folder["dense"])), pair => Assert.Equal(pair.First, pair.Second, 1e-4f));
    }

    [Fact]
    public void It_is_a_plain_adapter_for_the_base_without_it()
    {
        string model = MethodTable.WriteModel(_folder["model"], "gpt2");
        PlanRequest request = new(Rtn) { Overrides = [PlanOverride.Parse("*.mlp.c_fc=rtn:bits=4,repair_rank=2"), PlanOverride.Parse("*.mlp.c_proj=rtn:bits=4")] };
        Quantizer.Run(model, _folder["out"], request);
        float[] whole = LogitPairs.Of(_folder["out"]);
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => LoadedModel.Load(_folder["out"], new LoadOptions { Adapter = Path.Combine(_folder["out"], "repair") })).Kind);
        Directory.Move(Path.Combine(_folder["out"], "repair"), _folder["adapter"]);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => LogitPairs.Of(_folder["out"])).Kind);
        string config = Path.Combine(_folder["out"], "config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("\"nibble_repair\"", "\"unknown\"", StringComparison.Ordinal));
        using LoadedModel loaded = LoadedModel.Load(_folder["out"], new LoadOptions { Adapter = _folder["adapter"] });
        int[] ids = [1, 5, 9, 2, 7, 3, 8];
        Assert.Equal(Scores(ids), loaded.LogLikelihoods(ids), (a, b) => Math.Abs(a - b) < 1e-4);
        Assert.NotEqual(whole, LogitPairs.Of(_folder["out"]));

        float[] Scores(int[] tokens)
        {
            using LoadedModel repaired = LoadedModel.Load(model, new LoadOptions { Quantization = request });
            return repaired.LogLikelihoods(tokens);
        }
    }

    [Theory]
    [InlineData("repair_rank=0")]
    [InlineData("repair_iterations=2")]
    [InlineData("repair_rank=64")]
    [InlineData("repair_rank=4,repair_iterations=0")]
    public void What_makes_no_sense_is_refused(string settings)
    {
        ModelConfig config = ModelConfig.Open(MethodTable.WriteModel(_folder["model"], "llama"));
        PlanRequest request = new(Rtn) { Overrides = [PlanOverride.Parse($"*.q_proj=rtn:{settings}")] };
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => QuantPlan.Create(config, request)).Kind);
    }

    [Fact]
    public void A_weighted_repair_needs_a_text_and_affine_codes()
    {
        string model = MethodTable.WriteModel(_folder["model"], "llama");
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => Quantizer.Run(model, _folder["out"], new PlanRequest(Rtn with { RepairWeighted = true }))).Kind);
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => QuantPlan.Create(ModelConfig.Open(model), new PlanRequest(new QuantizationSettings { Method = "nf4", RepairRank = 4, RepairWeighted = true }))).Kind);
    }

    [Fact]
    public void DoRA_and_merging_into_codes_refuse_a_repaired_base()
    {
        Quantizer.Run(MethodTable.WriteModel(_folder["model"], "llama"), _folder["out"], new PlanRequest(Rtn));
        using LoadedModel loaded = LoadedModel.Load(_folder["out"]);
        IReadOnlyList<LinearSpec> linears = Registry.Architecture(loaded.Config).Linears(loaded.Config);
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => LoraAdapter.Create(loaded.Model, linears, new LoraSettings { UseDora = true }, 1)).Kind);
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => LoraAdapter.Create(loaded.Model, linears, new LoraSettings { Init = LoraInit.Pissa }, 1)).Kind);
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => new Nibble.Tuning.Merging.RequantizedFolder(_folder["out"])).Kind);
    }

    [Fact]
    public void Interrupted_work_goes_on_to_the_same_bytes()
    {
        PlanRequest request = new(new QuantizationSettings { Method = "gptq", Bits = 2, RepairRank = Rank, RepairIterations = 2 });
        Quantizer.Run(Embedded, _folder["whole"], request, new() { Calibration = Text });
        using CancellationTokenSource stop = new();
        QuantizerOptions options = new() { Calibration = Text };
        Assert.Throws<WorkInterruptedException>(() => Quantizer.Run(
            Embedded, _folder["out"], request, options, step => { if (step.Done == 20) { stop.Cancel(); } }, stop.Token));
        List<string> notes = [];
        Quantizer.Run(Embedded, _folder["out"], request, options with { Note = notes.Add });
        Assert.Contains(notes, note => note.StartsWith("going on", StringComparison.Ordinal));
        foreach (string file in Directory.GetFiles(_folder["whole"], "*.safetensors", SearchOption.AllDirectories))
        {
            Assert.Equal(File.ReadAllBytes(file), File.ReadAllBytes(Path.Combine(_folder["out"], Path.GetRelativePath(_folder["whole"], file))));
        }
    }

    private static GramStatistics Gram(int columns, int tokens)
    {
        Random random = new(3);
        double[] gram = new double[columns * columns];
        for (int t = 0; t < tokens; t++)
        {
            double[] x = [.. Enumerable.Range(0, columns).Select(i => (random.NextDouble() - 0.5) * (i % 16 == 3 ? 20 : 1))];
            for (int i = 0; i < gram.Length; i++)
            {
                gram[i] += x[i / columns] * x[i % columns];
            }
        }

        return new GramStatistics(tokens, columns, gram);
    }
}
