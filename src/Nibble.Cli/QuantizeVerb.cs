using System.CommandLine;
using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.Hub;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Runs;
using Nibble.Tensors;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble quantize</c>: a dense model folder in, a quantized one out.</summary>
internal sealed class QuantizeVerb : IVerb
{
    private readonly Argument<string> _model = CommonOptions.Model();
    private readonly QuantizationOptions _quantization = new();
    private readonly BudgetOptions _budget = new();
    private readonly Option<string?> _output = CommonOptions.Output("Folder of the quantized model.");
    private readonly Option<bool> _force = CommonOptions.Force();
    private readonly Option<bool> _dryRun = CommonOptions.DryRun();
    private readonly Option<bool> _json = CommonOptions.Json();
    private readonly Option<bool> _verify = new("--verify") { Description = "Read the result back in a fresh process and compare all codes and scales before the folder appears." };
    private readonly Option<bool> _verifyOnly = new("--verify-only") { Description = "MODEL is a folder that nibble quantize wrote: compare its codes and scales with its record, and write nothing." };
    private readonly Option<long> _shard = new("--max-shard-bytes") { Description = "Most bytes of tensors in one file.", DefaultValueFactory = _ => HfFolderWriter.DefaultShardBytes };
    private readonly Option<string?> _data = new("--data") { Description = "Calibration text for methods that look at the inputs of layers: anything that can be trained on (its training split), or demo." };
    private readonly Option<int> _samples = new("--samples") { Description = "Calibration samples.", DefaultValueFactory = _ => 128 };
    private readonly Option<int?> _sampleLength = new("--sample-length") { Description = "Tokens of a calibration sample (default: 512, or the model's context if that is shorter)." };
    private readonly Option<long> _memory = new("--calibration-bytes") { Description = "Bytes that hidden states and intermediates may take; hidden states beyond it go to a temporary file.", DefaultValueFactory = _ => 4L << 30 };
    private readonly Option<string> _states = new("--calibration-dtype") { Description = "Dtype of hidden states between blocks during calibration: f32, or bf16 for half of the memory.", DefaultValueFactory = _ => "f32" };
    private readonly Option<int> _seed = CommonOptions.Seed();
    private readonly Option<int?> _threads = CommonOptions.Threads();
    private readonly Option<string> _device = CommonOptions.Device();

    public Command Create(CancellationToken cancellation)
    {
        _states.AcceptOnlyFromAmong("f32", "bf16");
        Command command = new("quantize", "Quantize a model folder.") { _model };
        _quantization.AddTo(command);
        _budget.AddTo(command);
        foreach (Option option in new Option[] { _output, _data, _samples, _sampleLength, _memory, _states, _seed, _force, _dryRun, _verify, _verifyOnly, _shard, _device, _threads, _json })
        {
            command.Options.Add(option);
        }

        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private void Run(ParseResult parsed, CancellationToken cancelled)
    {
        using CancellationTokenSource orphaned = ChildProcess.WatchParent(cancelled);
        CancellationToken cancellation = orphaned.Token;
        CommonOptions.UseThreads(parsed.GetValue(_threads));
        string model = parsed.GetRequiredValue(_model);
        if (parsed.GetValue(_verifyOnly))
        {
            VerifyOnly(parsed, model);
            return;
        }

        if (!parsed.GetValue(_dryRun) && parsed.GetValue(_output) is { } target)
        {
            // Measuring for a budget takes a while: an output that is there already is told before it.
            OutputFolder.Check(target, parsed.GetValue(_force));
        }

        PlanRequest? request = _budget.Request(parsed, model, _quantization, Calibration(parsed), cancellation) ?? _quantization.Request(parsed);
        if (request is null)
        {
            Throw.Usage("no quantization method was chosen", $"there are {string.Join(", ", Registry.Methods.Select(method => method.Name))}", "for example --method nf4, or --budget 4.25bpw");
        }

        if (parsed.GetValue(_dryRun))
        {
            DryRun(parsed, model, request);
            return;
        }

        if (parsed.GetValue(_output) is not { } output)
        {
            Throw.Usage("no output folder was given", remedy: "add -o FOLDER, or --dry-run to see the plan alone");
            return;
        }

        Quantize(parsed, model, output, request, cancellation);
    }

    private void Quantize(ParseResult parsed, string model, string output, PlanRequest request, CancellationToken cancellation)
    {
        QuantPlan plan = ShowPlan(parsed, model, request);
        using LiveRun run = RunRecording.Start(_ => Describe(parsed, model, output, request, plan));
        bool verify = parsed.GetValue(_verify);
        QuantizerOptions options = new()
        {
            Force = parsed.GetValue(_force),
            MaxShardBytes = parsed.GetValue(_shard),
            Device = parsed.GetValue(_device)!,
            Calibration = Calibration(parsed),
            Note = Output.Human.WriteLine,
            BeforeCommit = verify ? FreshProcess.Verify : null,
        };
        QuantizationResult result = run.While(() =>
        {
            using PeakMemory memory = new();
            QuantizationResult made = QuantizeRendering.WithProgress("quantize", show => Quantizer.Run(model, output, request, options, step => Progress(step, run, show), cancellation));
            run.Add([.. RunRecorder.MetricsOf(made, output), new RunMetric("peak_memory_bytes", 0, memory.Bytes())]);
            run.Finish(RunEnd.Finished, artefacts: LiveRun.FilesOf(output));
            return made;
        });
        if (parsed.GetValue(_json))
        {
            Output.Json(QuantizeRendering.Document(model, output, result, verify));
        }
        else
        {
            QuantizeRendering.Result(output, result, verify);
        }
    }

    private static void Progress(QuantizationStep step, LiveRun run, Action<QuantizationStep>? show)
    {
        run.Progress(QuantizeRendering.Share(step));
        show?.Invoke(step);
    }

    /// <summary>The quantization as the run store knows it.</summary>
    private NewRun Describe(ParseResult parsed, string model, string output, PlanRequest request, QuantPlan plan)
    {
        // With the method's own values for what was not given.
        QuantizationSettings settings = plan.Quantized.FirstOrDefault(tensor => tensor.Settings?.Method == request.Settings.Method)?.Settings ?? request.Settings;
        object configuration = new
        {
            Model = model, settings.Method, settings.Bits, Settings = settings.ToDocument(), Overrides = request.Overrides.Count > 0 ? request.Overrides.Select(item => $"{item}") : null,
            QuantizeHead = request.Head, QuantizeEmbeddings = request.Embeddings, Layout = plan.Layout.Name, Matrices = plan.Quantized.Count(), Budget = _budget.Text(parsed),
            Data = parsed.GetValue(_data), Samples = parsed.GetValue(_data) is null ? (int?)null : parsed.GetValue(_samples), SampleLength = parsed.GetValue(_sampleLength),
            Seed = parsed.GetValue(_seed), Device = parsed.GetValue(_device), Threads = parsed.GetValue(_threads), Output = output,
        };
        return new NewRun("quantize", HubCache.Called(model), request.Settings.Method, RunRecorder.Json(configuration), RunRecorder.Json(EnvironmentFacts.Read()))
        {
            Output = Path.TrimEndingDirectorySeparator(Path.GetFullPath(output)),
        };
    }

    private CalibrationRequest? Calibration(ParseResult parsed) => parsed.GetValue(_data) is not { } data ? null : new CalibrationRequest(data)
    {
        Samples = parsed.GetValue(_samples),
        Length = parsed.GetValue(_sampleLength),
        Seed = parsed.GetValue(_seed),
        MemoryBytes = parsed.GetValue(_memory),
        States = parsed.GetValue(_states) == "bf16" ? DType.BF16 : DType.F32,
    };

    private QuantPlan ShowPlan(ParseResult parsed, string model, PlanRequest request)
    {
        (HfFolder folder, QuantPlan plan) = Quantizer.Prepare(model, request);
        folder.Dispose();
        QuantizeRendering.Plan(plan);
        _budget.Save(parsed, plan);
        if (parsed.GetValue(_data) is not null && !plan.NeedsCalibration && !_budget.Measures(parsed))
        {
            Output.Text.WriteLine("note: --data is not read: no matrix of this plan is quantized by what it sees in a text");
        }

        return plan;
    }

    /// <summary>The plan of a folder; the config alone is enough, and weights are checked where they are.</summary>
    private void DryRun(ParseResult parsed, string model, PlanRequest request)
    {
        ModelConfig config = ModelConfig.Open(model);
        QuantPlan plan = QuantPlan.Create(config, request);
        DType source = DType.BF16;
        if (Directory.Exists(model) && Directory.EnumerateFiles(model, "*.safetensors*").Any())
        {
            (HfFolder folder, _) = Quantizer.Prepare(model, request);
            using (folder)
            {
                source = folder.Names.Select(name => folder.Entry(name).DType).FirstOrDefault(dtype => dtype?.IsFloat() == true) ?? source;
            }
        }

        _budget.Save(parsed, plan);
        PlanEstimate estimate = PlanEstimate.Of(plan, config, source);
        if (parsed.GetValue(_json))
        {
            Output.Json(new { Schema = 1, Model = model, DryRun = true, Plan = plan.ToDocument(), Estimate = estimate });
            return;
        }

        QuantizeRendering.Plan(plan);
        QuantizeRendering.Estimate(estimate);
    }

    private void VerifyOnly(ParseResult parsed, string model)
    {
        int matrices = QuantizationCheck.Run(model);
        if (parsed.GetValue(_json))
        {
            Output.Json(new { Schema = 1, Model = model, Verified = true, Matrices = matrices });
            return;
        }

        Output.Text.WriteLine($"{matrices} matrices read back as they were written");
    }
}
