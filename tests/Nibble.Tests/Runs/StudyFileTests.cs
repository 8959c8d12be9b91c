using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Runs.Studies;
using Nibble.Tensors;

namespace Nibble.Tests.Runs;

public sealed class StudyFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-study-").FullName;

    public StudyFileTests() => Directory.CreateDirectory(Path.Combine(_folder, "model"));

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private Study Read(string yaml)
    {
        string path = Path.Combine(_folder, "study.yaml");
        File.WriteAllText(path, yaml);
        return StudyFile.Read(path);
    }

    private NibbleException Refused(string yaml) => Assert.Throws<NibbleException>(() => Read(yaml));

    [Fact]
    public void A_full_study()
    {
        Study study = Read("""
            name: all
            models: [model, {name: again, path: ./model}]
            methods:
              - none
              - {method: nf4, double_quant: true, label: double}
              - {method: rtn, bits: 3, group_size: 32, symmetric: true}
            tasks:
              perplexity: {data: demo, window: 128, limit: 1000}
              latency: {runs: 3}
            seed: 7
            country: Germany
            """);
        Assert.Equal(["model", "again"], study.Models.Select(model => model.Name));
        Assert.Equal(["dense", "double", "rtn 3 bit g32 symmetric"], study.Methods.Select(method => method.Label));
        Assert.True(study.Methods[0].IsBaseline);
        Assert.Equal(["perplexity", "latency"], study.Tasks.Tasks);
        Assert.Equal((128, 1000, 3, 7, "DE"), (study.Tasks.Window, study.Tasks.Limit, study.Tasks.Runs, study.Tasks.Seed, study.Tasks.Country));
        IReadOnlyList<string> arguments = StudyCell.ArgumentsFor(study, study.Models[0], study.Methods[2]);
        Assert.Contains("--bits=3", arguments);
        Assert.Contains("--group-size=32", arguments);
        Assert.Contains("--symmetric", arguments);
        Assert.Contains("--country=DE", arguments);
        Assert.Contains("--double-quant=true", StudyCell.ArgumentsFor(study, study.Models[0], study.Methods[1]));
    }

    [Fact]
    public void A_default_that_depends_on_the_model_is_left_to_the_command()
    {
        Study study = Read("""
            models: [model]
            methods: [quanto, {method: quanto, scale_dtype: f32, label: f32}, {method: rtn, bits: 4}]
            """);
        string[] Scales(int method) => [.. StudyCell.ArgumentsFor(study, study.Models[0], study.Methods[method]).Where(argument => argument.StartsWith("--scale-dtype", StringComparison.Ordinal))];
        Assert.Empty(Scales(0));
        Assert.Equal(["--scale-dtype=f32"], Scales(1));
        Assert.Equal(["--scale-dtype=f16"], Scales(2));
    }

    [Theory]
    [InlineData(DType.BF16, "bf16")]
    [InlineData(DType.F32, "f32")]
    public void A_result_names_the_default_that_the_model_decided(DType stored, string expected) =>
        Assert.Equal(expected, MeasuredMethod.Of(new PlanRequest(new QuantizationSettings { Method = "quanto" }), stored).Settings["scale_dtype"]);

    [Fact]
    public void Options_of_steps_that_are_false_are_said()
    {
        Study study = Read("""
            models:
              - name: prepared
                path: model
                prepare:
                  - quantize: {method: gptq, act_order: false, repair_weighted: false, symmetric: true}
            methods: [none]
            seed: 5
            """);
        Assert.Equal(["--method=gptq", "--act-order=false", "--repair-weighted=false", "--symmetric", "--seed=5"], study.Models[0].Steps.Single().Options);
    }

    [Fact]
    public void Lines_of_commands_survive_a_shell()
    {
        Assert.Equal(@"nibble eval 'a b' '--data=it'\''s $HOME' --bits=3 '' '(x)'", CellPreparation.Line(["nibble", "eval", "a b", "--data=it's $HOME", "--bits=3", "", "(x)"]));
    }

    [Fact]
    public void A_budget_and_a_repair_are_cells()
    {
        Study study = Read("""
            models: [model]
            methods: [{method: budget, budget: 3.25bpw}, {method: budget, max_bytes: 6MB, label: six}, none, {method: rtn, bits: 3, repair_rank: 8}, {method: hqq, repair_rank: 4, repair_weighted: true}]
            """);
        Assert.Equal(["budget 3.25bpw", "six", "dense", "rtn 3 bit + rank 8", "hqq + rank 4"], study.Methods.Select(method => method.Label));
        Assert.Equal([false, false, true, false, false], study.Methods.Select(method => method.IsBaseline));
        Assert.Equal([true, true, false, false, true], study.Methods.Select(method => method.NeedsCalibration));
        Assert.Contains("--budget=3.25", StudyCell.PreparationFor(study, study.Models[0], study.Methods[0]));
        Assert.Contains("--max-bytes=6000000", StudyCell.PreparationFor(study, study.Models[0], study.Methods[1]));
        Assert.DoesNotContain(StudyCell.ArgumentsFor(study, study.Models[0], study.Methods[0]), argument => argument.StartsWith("--method", StringComparison.Ordinal));
        Assert.Contains("--repair-rank=8", StudyCell.ArgumentsFor(study, study.Models[0], study.Methods[3]));
        Assert.Contains("--repair-weighted=true", StudyCell.PreparationFor(study, study.Models[0], study.Methods[4]));
        Refused("models: [model]\nmethods: [{method: budget}]");
        Refused("models: [model]\nmethods: [{method: budget, budget: 3bpw, max_bytes: 6MB}]");
        Refused("models: [model]\nmethods: [{method: budget, budget: much}]");
        Refused("models: [model]\nmethods: [{method: budget, budget: 3bpw, bits: 3}]");
    }

    [Fact]
    public void A_model_can_be_prepared_by_steps()
    {
        File.WriteAllText(Path.Combine(_folder, "train.txt"), "text");
        Study study = Read("""
            models:
              - model
              - path: model
                name: tuned
                methods: [half]
                prepare:
                  - quantize: {method: nf4, double_quant: true}
                  - finetune: {method: qlora, data: train.txt, max_steps: 3, packing: false}
              - {path: nowhere, name: absent, optional: true}
            methods: [{method: none, label: whole}, {method: none, dtype: bf16, label: half}]
            tasks: {perplexity: {data: demo}}
            seed: 5
            """);
        Assert.Equal(["model", "tuned"], study.Models.Select(model => model.Name));
        Assert.Contains("Left out: absent (looked for", study.Description, StringComparison.Ordinal);
        Assert.Equal(["whole", "half"], study.Methods.Where(study.Models[0].Takes).Select(method => method.Label));
        Assert.Equal(["half"], study.Methods.Where(study.Models[1].Takes).Select(method => method.Label));
        Assert.Equal(["quantize", "finetune"], study.Models[1].Steps.Select(step => step.Verb));
        Assert.Equal(["--method=nf4", "--double-quant", "--seed=5"], study.Models[1].Steps[0].Options);
        string data = Path.Combine(_folder, "train.txt");
        Assert.Equal(["--method=qlora", $"--data={data}", "--max-steps=3", "--packing=false", "--seed=5"], study.Models[1].Steps[1].Options);
        Assert.Equal([data], study.Models[1].Steps[1].Data);
    }

    [Fact]
    public void Threads_and_the_card_of_a_study_reach_what_it_starts()
    {
        const string rest = """
            models:
              - path: model
                prepare: [{quantize: {method: nf4}}, {quantize: {method: nf4, threads: 1, device: "cuda:1"}}]
            methods: [none, {method: gptq, bits: 3}]
            tasks: {perplexity: {data: demo}}
            threads: 3
            """;
        Study card = Read(rest + "\ndevice: cuda"), processor = Read(rest + "\ndevice: cpu");
        Assert.Equal(["--method=nf4", "--seed=1234", "--threads=3"], card.Models[0].Steps[0].Options);
        Assert.Equal(["--method=nf4", "--threads=1", "--device=cuda:1", "--seed=1234"], card.Models[0].Steps[1].Options);
        IReadOnlyList<string> preparation = StudyCell.PreparationFor(card, card.Models[0], card.Methods[1]);
        Assert.Contains("--device=cuda", preparation);
        Assert.Contains("--threads=3", preparation);
        Assert.Equal(preparation.Except(["--device=cuda"]), StudyCell.PreparationFor(processor, processor.Models[0], processor.Methods[1]));
    }

    [Theory]
    [InlineData("{finetune: {data: nowhere.txt}}", "'nowhere.txt' is not on this machine")]
    [InlineData("{finetune: {output: here}}", "'output' can't be given to a step")]
    [InlineData("{train: {}}", "unknown key 'train'")]
    public void A_step_that_cannot_work_is_refused_with_its_line(string step, string what)
    {
        NibbleException error = Refused($"models: [{{path: model, prepare: [{step}]}}]\nmethods: [none]\n");
        Assert.Contains("line 1", error.Message, StringComparison.Ordinal);
        Assert.Contains(what, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_method_that_needs_calibration_quantizes_a_folder_first()
    {
        Study study = Read("""
            models: [model]
            methods: [none, {method: gptq, bits: 3, act_order: true}, nf4]
            calibration: {data: demo, samples: 8, length: 64}
            tasks: {perplexity: {data: demo}}
            seed: 5
            """);
        Assert.True(study.Methods[1].NeedsCalibration);
        IReadOnlyList<string> preparation = StudyCell.PreparationFor(study, study.Models[0], study.Methods[1]);
        Assert.Equal("quantize", preparation[0]);
        Assert.Subset(preparation.ToHashSet(), new HashSet<string> { "--method=gptq", "--bits=3", "--act-order=true", "--data=demo", "--samples=8", "--sample-length=64", "--seed=5" });
        Assert.DoesNotContain(StudyCell.ArgumentsFor(study, study.Models[0], study.Methods[1]), argument => argument.StartsWith("--method", StringComparison.Ordinal));
        Assert.Empty(StudyCell.PreparationFor(study, study.Models[0], study.Methods[2]));
    }

    [Theory]
    [InlineData("models: [model]\nmethods: [none]\ncalibration: {sampels: 3}", "line 3", "sampels")]
    [InlineData("models: [model]\nmethods: [none]\nmethds: [x]", "line 3", "methds")]
    [InlineData("models: [model]\nmethods:\n  - {method: nf4, blok_size: 64}", "line 3", "blok_size")]
    [InlineData("models: [model]\nmethods:\n  - {method: nf5}", "line 3", "nf5")]
    [InlineData("models: [model]\nmethods:\n  - none\n  - {method: nf4, bits: 3, group_size: 8}", "line 4", "--group-size")]
    [InlineData("models: [model]\nmethods:\n  - {method: rtn, bits: many}", "line 3", "whole number")]
    [InlineData("models: [missing]\nmethods: [none]", "line 1", "does not exist")]
    [InlineData("models: [model]\nmethods: [none]\ntasks:\n  perplexity: {stride: 0}", "line 4", "at least 1")]
    [InlineData("models: [model]\nmethods: [none]\ntasks:\n  speed: {}", "line 4", "speed")]
    [InlineData("models: [model]\nmethods: [none, none]", "line 1", "twice")]
    [InlineData("models: [model]\nmethods:\n  - {method: none, bits: 4}", "line 3", "takes no quantization settings")]
    [InlineData("models: [model", "line", "no YAML")]
    [InlineData("methods: [none]", "line 1", "models")]
    public void Mistakes_are_named_with_their_line(string yaml, string line, string what)
    {
        NibbleException error = Refused(yaml);
        Assert.Equal(what == "does not exist" ? ErrorKind.NotFound : ErrorKind.BadInput, error.Kind);
        Assert.Contains(line, error.Message, StringComparison.Ordinal);
        Assert.Contains(what, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Paths_are_seen_from_the_study()
    {
        Study study = Read("models: [model]\nmethods: [none]\ntasks: {perplexity: {data: text.txt}}");
        Assert.Equal(Path.Combine(_folder, "text.txt"), study.Tasks.Data);
        Assert.Equal(Path.Combine(_folder, "model"), study.Models[0].Path);
    }

    [Fact]
    public void The_demo_is_a_study_with_every_method()
    {
        StudyPlan plan = StudyPlan.Of(StudyFile.Read(AssetFolder.Find("studies/demo.yaml")));
        Assert.True(plan.Cells.Count >= 11);
        Assert.True(plan.Cells[0].Method.IsBaseline);
        Assert.Equal(plan.Cells.Count, plan.Cells.Select(cell => cell.Key).Distinct().Count());
        string[] methods = [.. plan.Cells.Select(cell => cell.Method.Method).Distinct()];
        Assert.Superset(new HashSet<string> { "none", "int8", "nf4", "fp4", "rtn", "quanto", "ternary", "hqq", "gptq", "awq" }, methods.ToHashSet());
        Assert.True(plan.Study.Tasks.Limit > 20_000);
    }

    [Fact]
    public void A_key_changes_with_everything_that_numbers_depend_on()
    {
        string[] arguments = ["eval", "m", "--bits=4"];
        string key = StudyCell.KeyOf(arguments, null, "model", "text");
        Assert.Equal(key, StudyCell.KeyOf(arguments, null, "model", "text"));
        Assert.NotEqual(key, StudyCell.KeyOf(["eval", "m", "--bits=3"], null, "model", "text"));
        Assert.NotEqual(key, StudyCell.KeyOf(arguments, ["eval"], "model", "text"));
        Assert.NotEqual(key, StudyCell.KeyOf(arguments, null, "other", "text"));
        Assert.NotEqual(key, StudyCell.KeyOf(arguments, null, "model", "other"));
    }
}
