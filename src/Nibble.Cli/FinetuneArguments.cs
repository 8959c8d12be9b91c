using System.CommandLine;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Cli;

/// <summary>The options of <c>nibble finetune</c> and what they mean together.</summary>
internal sealed class FinetuneArguments
{
    private const int DemoSteps = 16, DemoLength = 256;
    private const double DemoLearningRate = 2e-3;

    private readonly Argument<string?> _model = new("model") { Description = "Folder of the base model (left out with --demo).", CustomParser = CommonOptions.Place, Arity = ArgumentArity.ZeroOrOne };
    private readonly Option<bool> _demo = new("--demo") { Description = "Tune the embedded model on embedded text of another domain." };
    private readonly Option<string?> _data = new("--data") { Description = "File (text, JSON lines, JSON, CSV, TSV, Parquet; also .gz), folder, address (http, https, s3, gs) or name (wikitext2, tweeteval/TASK, codesearchnet/LANGUAGE); for classification texts with labels." };
    private readonly Option<string> _format = new("--format") { Description = "What the fields of rows are: auto, text, completion, messages, alpaca or sharegpt.", DefaultValueFactory = _ => "auto" };
    private readonly Option<string?> _split = new("--split") { Description = "Split of --data (default: train where there is one)." };
    private readonly Option<string?> _evalSplit = new("--eval-split") { Description = "Split of --eval-data (default: validation, else test)." };
    private readonly Option<string?> _chatTemplate = new("--chat-template") { Description = "Jinja file that turns conversations into text, instead of the model's own." };
    private readonly Option<string?> _evalData = new("--eval-data") { Description = "Held-out data, measured before and after." };
    private readonly Option<int> _evalSteps = Ranged("--eval-steps", 0, 0, int.MaxValue, "Steps between measurements of the held-out data; 0 only before and after.");
    private readonly Option<int> _earlyStopping = Ranged("--early-stopping", 0, 0, int.MaxValue, "End after this many measurements in a row without a new best, and keep the best; 0 never.");
    private readonly Option<string> _task = new("--task") { Description = "causal (next token) or classification (a trained head; texts with labels).", DefaultValueFactory = _ => "causal" };
    private readonly Option<string?> _labels = new("--labels") { Description = "classification: names of the labels in the order of the head, separated by commas (default: those of the base or of the data)." };
    private readonly Option<string> _method = new("--method") { Description = "full, lora, qlora, dora, ia3, prefix, prompt, qat (through a quantizer, saved as codes) or bitnet (ternary weights, int8 activations).", DefaultValueFactory = _ => "lora" };
    private readonly Option<string?> _quantization = new("--quantization") { Description = "Quantize a dense base while it loads (nf4, fp4, rtn, hqq, quanto …; qlora: nf4 with double quantization). With full: train from those values. With qat: train for this grid (default rtn, 4 bits)." };
    private readonly Option<int?> _bits = new("--bits") { Description = "Bits of the quantized base, where the quantization leaves a choice." };
    private readonly Option<int?> _groupSize = new("--group-size") { Description = "Columns that share a scale; -1: one scale a row." };
    private readonly Option<int?> _blockSize = new("--block-size") { Description = "nf4 and fp4: values that share a scale." };
    private readonly Option<bool> _symmetric = new("--symmetric") { Description = "No zero points." };
    private readonly Option<double?> _lambda = new("--lambda-warmup-ratio") { Description = "qat and bitnet: share of the steps over which rounding comes in gradually (default: bitnet 0.5, qat 0)." };
    private readonly Option<int> _rank = Ranged("--rank", 8, 1, 1 << 16, "Rank of the adapters.");
    private readonly Option<double?> _alpha = new("--alpha") { Description = "Numerator of the adapters' factor (default: twice the rank)." };
    private readonly Option<double> _dropout = Ranged("--dropout", 0.0, 0.0, 0.99, "Dropout on the adapters' input.");
    private readonly Option<string?> _targets = new("--target-modules") { Description = "Layers that get adapters: names separated by commas, a regular expression over paths, or all-linear." };
    private readonly Option<string?> _exclude = new("--exclude-modules") { Description = "Layers that don't, although they match." };
    private readonly Option<string[]> _rankPattern = new("--rank-pattern") { Description = "Other ranks for some layers: PATTERN=RANK, several separated by commas; a pattern is a name or a regular expression for the end of a path." };
    private readonly Option<string[]> _alphaPattern = new("--alpha-pattern") { Description = "Other alphas for some layers: PATTERN=ALPHA, as --rank-pattern." };
    private readonly Option<bool> _rslora = new("--rslora") { Description = "Factor alpha / sqrt(rank) instead of alpha / rank." };
    private readonly Option<string> _init = new("--init") { Description = "What A and B start as: kaiming (as the base), pissa (the base's largest singular parts), loftq (those of the quantization error).", DefaultValueFactory = _ => "kaiming" };
    private readonly Option<double> _plusRatio = Ranged("--loraplus-ratio", 1.0, 1e-6, 1e6, "LoRA+: the learning rate of B as a multiple of that of A.");
    private readonly Option<int> _virtual = Ranged("--virtual-tokens", 20, 1, 1 << 20, "prefix and prompt: how many tokens are trained.");
    private readonly Option<string> _weights = new("--weights") { Description = "full: what the model computes with: f32, or bf16 with f32 master weights.", DefaultValueFactory = _ => "f32" };
    private readonly Option<bool> _scratch = new("--from-scratch") { Description = "full: start at random numbers; of MODEL only configuration and tokenizer are read." };
    private readonly Option<double> _beta2 = Ranged("--beta2", 0.999, 0.0, 0.999999, "Decay of the mean of squared gradients of adamw; 0.95 is common from scratch.");
    private readonly Option<string> _optimizer = new("--optimizer") { Description = "adamw, adamw8bit, sgd, muon (matrices of the blocks; adamw for the rest), or paged-adamw, paged-adamw8bit, paged-sgd, paged-muon (states in a file).", DefaultValueFactory = _ => "adamw" };
    private readonly Option<double?> _momentum = new("--momentum") { Description = "Momentum of sgd (default 0.9) and muon (0.95)." };
    private readonly Option<double?> _learningRate = new("--learning-rate") { Description = "Highest learning rate (default 1e-3 for adapters and bitnet, 1e-4 for full and qat)." };
    private readonly Option<string> _schedule = new("--schedule") { Description = "cosine, linear, constant or warmup-stable-decay (constant, then a line to 0).", DefaultValueFactory = _ => "cosine" };
    private readonly Option<double> _decayRatio = Ranged("--decay-ratio", 0.5, 0, 1, "warmup-stable-decay: share of the steps over which the learning rate falls.");
    private readonly Option<double> _warmup = Ranged("--warmup-ratio", 0.03, 0, 1, "Share of the steps over which the learning rate rises.");
    private readonly Option<int?> _warmupSteps = new("--warmup-steps") { Description = "Steps over which it rises; wins over --warmup-ratio." };
    private readonly Option<bool> _packing = new("--packing") { Description = "Several short examples in one row, each seeing only itself." };
    private readonly Option<double> _decay = Ranged("--weight-decay", 0.0, 0.0, 10.0, "Decoupled weight decay.");
    private readonly Option<double> _norm = Ranged("--max-grad-norm", 1.0, 0.0, 1e9, "Gradients are scaled down to this norm; 0 leaves them alone.");
    private readonly Option<int> _batch = Ranged("--batch-size", 8, 1, 1 << 20, "Rows of one pass.");
    private readonly Option<int> _accumulation = Ranged("--grad-accumulation-steps", 1, 1, 1 << 20, "Passes of one step.");
    private readonly Option<int> _length = Ranged("--max-seq-length", 512, 2, 1 << 24, "Most tokens of a row.");
    private readonly Option<double> _epochs = Ranged("--epochs", 1, 1e-6, 1e6, "Passes over the data.");
    private readonly Option<int?> _steps = new("--max-steps") { Description = "Steps; wins over --epochs." };
    private readonly Option<int> _save = Ranged("--save-steps", 0, 0, int.MaxValue, "Steps between checkpoints; 0 writes none.");
    private readonly Option<bool> _checkpointing = new("--gradient-checkpointing") { Description = "Keep only the inputs of blocks, compute the rest again: less memory, a third more time." };
    private readonly Option<bool> _offload = new("--offload-checkpoints") { Description = "cuda: the kept inputs of blocks wait in pinned memory of the host." };
    private readonly Option<bool> _resume = new("--resume") { Description = "Go on from the newest checkpoint in the output." };
    private readonly Option<bool> _streaming = new("--streaming") { Description = "Read the data while training instead of beforehand: starts at once, whatever its size. Needs --max-steps." };
    private readonly Option<bool> _skipBad = new("--skip-bad") { Description = "Leave out rows of the data that can't be used, and count them." };
    private readonly Option<string?> _output = CommonOptions.Output("Folder to write.");
    private readonly Option<bool> _force = CommonOptions.Force();
    private readonly Option<int> _seed = CommonOptions.Seed();
    private readonly Option<int?> _threads = CommonOptions.Threads();
    private readonly Option<string> _device = CommonOptions.Device();
    private readonly Option<string> _activations = new("--activations") { Description = "Numbers of activations and products: f32, or bf16 (sums in f32; on the processor only products round).", DefaultValueFactory = _ => "f32" };

    public FinetuneArguments()
    {
        _method.AcceptOnlyFromAmong([.. TuningMethod.Names]);
        _lambda.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && result.GetValueOrDefault<double?>() is { } given && given is not (>= 0 and <= 1))
            {
                result.AddError($"--lambda-warmup-ratio {given}: expected 0 to 1");
            }
        });
        _format.AcceptOnlyFromAmong("auto", "text", "completion", "messages", "alpaca", "sharegpt");
        _task.AcceptOnlyFromAmong("causal", "classification");
        _init.AcceptOnlyFromAmong("kaiming", "pissa", "loftq");
        _weights.AcceptOnlyFromAmong("f32", "bf16");
        _optimizer.AcceptOnlyFromAmong("adamw", "adamw8bit", "sgd", "muon", "paged-adamw", "paged-adamw8bit", "paged-sgd", "paged-muon");
        _activations.AcceptOnlyFromAmong("f32", "bf16");
        _schedule.AcceptOnlyFromAmong("cosine", "linear", "constant", "warmup-stable-decay");
        _momentum.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && result.GetValueOrDefault<double?>() is { } given && given is not (>= 0 and <= 1))
            {
                result.AddError($"--momentum {given}: expected 0 to 1");
            }
        });
    }

    /// <summary>Declares everything.</summary>
    public void AddTo(Command command)
    {
        command.Arguments.Add(_model);
        Option[] all =
        [
            _demo, _data, _evalData, _format, _split, _evalSplit, _chatTemplate, _evalSteps, _earlyStopping, _task, _labels, _method, _quantization, _bits, _groupSize, _blockSize, _symmetric, _lambda, _weights, _scratch, _beta2, _rank,
            _alpha, _dropout, _targets, _exclude, _rankPattern, _alphaPattern, _rslora, _init, _plusRatio, _virtual, _optimizer, _momentum, _learningRate, _schedule, _decayRatio, _warmup, _warmupSteps, _packing,
            _decay, _norm, _batch, _accumulation, _length, _epochs, _steps, _save, _checkpointing, _offload, _resume, _skipBad, _streaming, _output, _force, _seed, _threads, _device, _activations,
        ];
        foreach (Option option in all)
        {
            command.Options.Add(option);
        }
    }

    /// <summary>The options as the library takes them; <paramref name="dryRun"/> needs neither data nor output.</summary>
    public FineTuneOptions Read(ParseResult parsed, bool dryRun)
    {
        bool demo = parsed.GetValue(_demo);
        string? model = parsed.GetValue(_model) ?? (demo ? AssetFolder.Find("assets/nibble-gpt2-10m") : null);
        FineTuneOptions options = new()
        {
            Model = model ?? Missing("a model", "give the folder of the base model, or --demo"),
            Method = parsed.GetValue(_method)!,
            Data = parsed.GetValue(_data) ?? (demo ? AssetFolder.Find("assets/text/tune-train.txt") : null),
            EvalData = parsed.GetValue(_evalData) ?? (demo ? AssetFolder.Find("assets/text/tune-valid.txt") : null),
            Classification = parsed.GetValue(_task) == "classification",
            Labels = parsed.GetValue(_labels)?.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries),
            Format = Enum.Parse<Data.RowFormat>(parsed.GetValue(_format)!, ignoreCase: true),
            Split = parsed.GetValue(_split),
            Streaming = parsed.GetValue(_streaming),
            EvalSplit = parsed.GetValue(_evalSplit),
            ChatTemplate = parsed.GetValue(_chatTemplate),
            VirtualTokens = parsed.GetValue(_virtual),
            WeightDtype = parsed.GetValue(_weights) == "bf16" ? DType.BF16 : DType.F32,
            LambdaWarmupRatio = parsed.GetValue(_lambda),
            FromScratch = parsed.GetValue(_scratch),
            Lora = Lora(parsed, demo),
            Quantization = Quantization(parsed),
            Trainer = Trainer(parsed, demo),
            Output = parsed.GetValue(_output),
            Force = parsed.GetValue(_force),
            Resume = parsed.GetValue(_resume),
            SkipBad = parsed.GetValue(_skipBad),
            Threads = parsed.GetValue(_threads),
            Device = parsed.GetValue(_device)!,
            Activations = parsed.GetValue(_activations) == "bf16" ? DType.BF16 : DType.F32,
        };
        if (!dryRun && options.Data is null)
        {
            Missing("--data", "give a text file, JSON lines or a folder of them, or --demo");
        }

        if (!dryRun && options.Output is null)
        {
            Missing("-o", "give the folder to write");
        }

        return options;
    }

    /// <summary>Options that were given and mean nothing to the chosen method.</summary>
    public IReadOnlyList<string> Unused(ParseResult parsed)
    {
        string method = parsed.GetValue(_method)!;
        bool lowRank = method is "lora" or "qlora" or "dora";
        (bool Used, Option[] Options)[] groups =
        [
            (lowRank, [_rank, _alpha, _dropout, _rankPattern, _alphaPattern, _rslora, _init, _plusRatio]),
            (lowRank || method == "ia3", [_targets, _exclude]),
            (method is "prefix" or "prompt", [_virtual]),
        ];
        return [.. groups.Where(group => !group.Used).SelectMany(group => group.Options).Where(option => !IsDefault(parsed, option)).Select(option => option.Name)];
    }

    private static bool IsDefault(ParseResult parsed, Option option) => parsed.GetResult(option) is null or { Implicit: true };

    private static string Missing(string what, string remedy)
    {
        Throw.Usage($"finetune needs {what}", remedy: remedy);
        return what;
    }

    private static Option<T> Ranged<T>(string name, T value, T least, T most, string description)
        where T : struct, IComparable<T>
    {
        Option<T> option = new(name) { Description = description, DefaultValueFactory = _ => value };
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && result.GetValueOrDefault<T>() is { } given && (given.CompareTo(least) < 0 || given.CompareTo(most) > 0))
            {
                result.AddError($"{name} {given}: expected {least} to {most}");
            }
        });
        return option;
    }

    private LoraSettings Lora(ParseResult parsed, bool demo)
    {
        (IReadOnlyList<string> targets, bool regex) = TargetModules.Parse(parsed.GetValue(_targets) ?? (demo ? TargetModules.AllLinear : null));
        (IReadOnlyList<string> excludes, bool excludeRegex) = TargetModules.Parse(parsed.GetValue(_exclude));
        int rank = parsed.GetValue(_rank);
        return new LoraSettings
        {
            Rank = rank,
            Alpha = parsed.GetValue(_alpha) ?? (2 * rank),
            Dropout = parsed.GetValue(_dropout),
            TargetModules = targets,
            TargetsAreRegex = regex,
            ExcludeModules = excludes,
            ExcludesAreRegex = excludeRegex,
            RankPattern = TargetModules.ParsePatterns<int>("--rank-pattern", parsed.GetValue(_rankPattern) ?? []),
            AlphaPattern = TargetModules.ParsePatterns<double>("--alpha-pattern", parsed.GetValue(_alphaPattern) ?? []),
            UseRsLora = parsed.GetValue(_rslora),
            Init = Enum.Parse<LoraInit>(parsed.GetValue(_init)!, ignoreCase: true),
            RateRatio = parsed.GetValue(_plusRatio),
        };
    }

    private OptimizerSettings Optimizer(ParseResult parsed)
    {
        string name = parsed.GetValue(_optimizer)!;
        OptimizerSettings settings = new()
        {
            Kind = Enum.Parse<OptimizerKind>(name.Split('-')[^1], ignoreCase: true),
            Paged = name.StartsWith("paged-", StringComparison.Ordinal),
            WeightDecay = (float)parsed.GetValue(_decay),
            Beta2 = (float)parsed.GetValue(_beta2),
        };
        return parsed.GetValue(_momentum) is { } momentum ? settings with { Momentum = (float)momentum } : settings;
    }

    private QuantizationSettings? Quantization(ParseResult parsed)
    {
        string? name = parsed.GetValue(_quantization);
        // What qlora starts from where nothing is named (TuningMethod): options such as --block-size then belong to it.
        bool isDefaultBase = name is null && parsed.GetValue(_method) == "qlora";
        QuantizationSettings settings = new()
        {
            Method = name ?? (isDefaultBase ? "nf4" : "rtn"),
            DoubleQuant = isDefaultBase ? true : null,
            Bits = parsed.GetValue(_bits),
            GroupSize = parsed.GetValue(_groupSize),
            BlockSize = parsed.GetValue(_blockSize),
            Symmetric = parsed.GetValue(_symmetric) ? true : null,
        };
        return name is null && settings is { Bits: null, GroupSize: null, BlockSize: null, Symmetric: null } ? null : settings;
    }

    // The demo's own defaults (half an epoch, short rows) fit two minutes on two cores that are busy with other things as well.
    private TrainerSettings Trainer(ParseResult parsed, bool demo) => new()
    {
        BatchSize = parsed.GetValue(_batch),
        GradAccumulationSteps = parsed.GetValue(_accumulation),
        MaxSeqLength = demo && IsDefault(parsed, _length) ? DemoLength : parsed.GetValue(_length),
        Epochs = parsed.GetValue(_epochs),
        MaxSteps = parsed.GetValue(_steps) ?? (demo && IsDefault(parsed, _epochs) ? DemoSteps : null),
        LearningRate = parsed.GetValue(_learningRate) ?? (parsed.GetValue(_method) is "full" or "qat" ? 1e-4 : demo ? DemoLearningRate : 1e-3),
        Schedule = Enum.Parse<ScheduleKind>(parsed.GetValue(_schedule)!.Replace("-", string.Empty, StringComparison.Ordinal), ignoreCase: true),
        DecayRatio = parsed.GetValue(_decayRatio),
        WarmupRatio = parsed.GetValue(_warmup),
        WarmupSteps = parsed.GetValue(_warmupSteps),
        Packing = parsed.GetValue(_packing),
        EvalSteps = parsed.GetValue(_evalSteps),
        EarlyStopping = parsed.GetValue(_earlyStopping),
        Optimizer = Optimizer(parsed),
        MaxGradNorm = parsed.GetValue(_norm),
        GradientCheckpointing = parsed.GetValue(_checkpointing),
        OffloadCheckpoints = parsed.GetValue(_offload),
        Seed = parsed.GetValue(_seed),
        SaveSteps = parsed.GetValue(_save),
    };
}
