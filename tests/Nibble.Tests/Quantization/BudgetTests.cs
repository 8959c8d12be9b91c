using System.Text.Json.Nodes;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Budget;
using Nibble.Quantization.Calibration;

namespace Nibble.Tests.Quantization;

/// <summary>Plans within a budget, and plans as files.</summary>
public sealed class BudgetTests
{
    private static readonly string Model = AssetFolder.Find(Path.Combine("assets", "nibble-llama-4m"));
    private static readonly CalibrationRequest Text = new("demo") { Samples = 4, Length = 64 };
    private static readonly QuantizationSettings Rtn = new() { Method = "rtn", GroupSize = 64 };

    [Fact]
    public void A_plan_keeps_its_budget_and_is_the_same_each_time()
    {
        BudgetPlan plan = Plan(new BudgetRequest { BitsPerWeight = 4.5 }), again = Plan(new BudgetRequest { BitsPerWeight = 4.5 });
        Assert.InRange(plan.BitsPerWeight, 4.3, 4.5);
        Assert.True(plan.Choices.Select(choice => choice.Tensor.Settings!.Bits).Distinct().Count() > 1);
        Assert.Equal(plan.Choices.Select(choice => choice.Tensor.Settings), again.Choices.Select(choice => choice.Tensor.Settings));
        Assert.Equal(plan.ExpectedLoss, again.ExpectedLoss);
    }

    [Fact]
    public void More_bytes_cost_less_quality_and_uniform_plans_cost_more()
    {
        using BudgetProblem problem = BudgetProblem.Open(Model, Rtn, null);
        problem.Measure(Text, null, CancellationToken.None);
        double[] losses = [.. new[] { 2.5, 3.5, 4.5, 6.5 }.Select(bits => problem.Solve(new BudgetRequest { BitsPerWeight = bits }).ExpectedLoss)];
        Assert.Equal(losses.OrderDescending(), losses);
        Assert.True(losses[^1] > 0);
    }

    [Fact]
    public void The_folder_is_no_larger_than_asked_and_loads_with_mixed_widths()
    {
        using TempFolder folder = new();
        const long most = 5_600_000;
        BudgetPlan plan = Plan(new BudgetRequest { MaxBytes = most });
        QuantizationResult result = Quantizer.Run(Model, folder["out"], plan.Request);
        Assert.InRange(new FileInfo(Path.Combine(folder["out"], "model.safetensors")).Length, most * 0.95, most);
        Assert.True(result.Report.Tensors.Select(tensor => tensor.Bits).Distinct().Count() > 1);
        Assert.Equal(plan.Choices.Count, QuantizationCheck.Run(folder["out"]));
        LogitPairs.AssertEqual(folder["out"], null, Model, plan.Request);
    }

    [Theory]
    [InlineData("1.2bpw")]
    [InlineData("0bpw")]
    [InlineData("many")]
    public void Budgets_that_no_plan_fits_are_refused(string text) =>
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => Plan(BudgetRequest.ParseBits(text))).Kind);

    [Theory]
    [InlineData("3.2GB", 3_200_000_000)]
    [InlineData("900MiB", 943_718_400)]
    [InlineData("12", 12)]
    [InlineData("1.5 kB", 1500)]
    public void Sizes_are_read(string text, long bytes) => Assert.Equal(bytes, BudgetRequest.ParseBytes(text).MaxBytes);

    [Theory]
    [InlineData("3.2 bits")]
    [InlineData("GB")]
    [InlineData("-4GB")]
    public void Sizes_that_are_none_are_refused(string text) =>
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => BudgetRequest.ParseBytes(text)).Kind);

    [Fact]
    public void Methods_with_one_width_and_bits_beside_a_budget_are_refused()
    {
        Assert.Throws<NibbleException>(() => BudgetProblem.Open(Model, new() { Method = "nf4" }, null));
        Assert.Throws<NibbleException>(() => BudgetProblem.Open(Model, Rtn with { Bits = 4 }, null));
        Assert.Throws<NibbleException>(() => BudgetProblem.Open(Model, Rtn, new PlanRequest(Rtn) { Overrides = [new PlanOverride("*", null)] }));
        Assert.Throws<NibbleException>(() => BudgetProblem.Open(Model, Rtn, new PlanRequest(Rtn) { Layout = "bitnet" }));
    }

    [Fact]
    public void A_plan_file_says_the_same_as_the_plan_and_can_be_edited()
    {
        using TempFolder folder = new();
        ModelConfig config = ModelConfig.Open(Model);
        PlanRequest request = new(Rtn) { Overrides = [PlanOverride.Parse("*.mlp.*=rtn:bits=3,symmetric=true"), PlanOverride.Parse("*.o_proj=none")] };
        QuantPlan plan = QuantPlan.Create(config, request);
        PlanFile.Write(folder["plan.json"], plan);
        QuantPlan read = QuantPlan.Create(config, PlanFile.Read(folder["plan.json"], config));
        Assert.Equal(plan.Tensors, read.Tensors);
        Assert.Equal(plan.Layout, read.Layout);

        JsonObject document = JsonNode.Parse(File.ReadAllText(folder["plan.json"]))!.AsObject();
        JsonObject tensor = document["tensors"]!.AsArray().First(item => item!["method"]!.GetValue<string>() == "rtn")!.AsObject();
        tensor["bits"] = 8;
        File.WriteAllText(folder["plan.json"], document.ToJsonString());
        read = QuantPlan.Create(config, PlanFile.Read(folder["plan.json"], config));
        Assert.Equal(8, read.Tensors.Single(item => item.Spec.Path == tensor["path"]!.GetValue<string>()).Settings!.Bits);
    }

    [Fact]
    public void The_record_of_a_folder_is_a_plan_too()
    {
        using TempFolder folder = new();
        Quantizer.Run(Model, folder["out"], new PlanRequest(Rtn) { Overrides = [PlanOverride.Parse("*.mlp.*=rtn:bits=3")] });
        PlanRequest request = PlanFile.Read(Path.Combine(folder["out"], QuantizationReport.FileName), ModelConfig.Open(Model));
        Quantizer.Run(Model, folder["again"], request);
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder["out"], "model.safetensors")), File.ReadAllBytes(Path.Combine(folder["again"], "model.safetensors")));
    }

    [Fact]
    public void Plans_of_another_model_are_refused_with_all_differences()
    {
        using TempFolder folder = new();
        PlanFile.Write(folder["plan.json"], QuantPlan.Create(ModelConfig.Open(Model), new PlanRequest(Rtn)));
        string text = File.ReadAllText(folder["plan.json"]);
        File.WriteAllText(folder["other.json"], text.Replace("layers.0.mlp.up_proj", "layers.0.mlp.sideways_proj", StringComparison.Ordinal));
        NibbleException error = Assert.Throws<NibbleException>(() => PlanFile.Read(folder["other.json"], ModelConfig.Open(Model)));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("model.layers.0.mlp.up_proj is missing", error.Message, StringComparison.Ordinal);
        Assert.Contains("sideways_proj is no matrix", error.Message, StringComparison.Ordinal);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => PlanFile.Read(folder["none.json"], ModelConfig.Open(Model))).Kind);
    }

    private static BudgetPlan Plan(BudgetRequest budget) => BudgetPlanner.Create(Model, budget, Text, Rtn);
}
