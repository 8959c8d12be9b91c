using Nibble.Backends.Cpu;
using Nibble.Backends.Cpu.BFloat16;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>What the name of a tuning method means: how the base is loaded, what is trained, how much that is.</summary>
public static class TuningMethod
{
    /// <summary>All names.</summary>
    public static IReadOnlyList<string> Names { get; } = ["full", "lora", "qlora", "dora", "ia3", "prefix", "prompt", "qat", "bitnet"];

    /// <summary>How the base is loaded.</summary>
    internal static LoadOptions LoadOptionsOf(FineTuneOptions options, IReadOnlyList<string>? labels)
    {
        bool dense = ModelConfig.Open(options.Model).QuantMethod is null;
        QuantizationSettings? quantization = options.Quantization ?? (options.Method == "qlora" && dense ? new QuantizationSettings { Method = "nf4", DoubleQuant = true } : null);
        return new LoadOptions
        {
            Device = options.Device,
            Threads = options.Threads,
            Compute = options.Activations,
            Trainable = !options.UsesAdapter,
            Dtype = options.UsesAdapter ? null : options.WeightDtype,
            Quantization = quantization is null || options.QuantizedTraining is not null ? null : new PlanRequest(quantization),
            Labels = labels,
            Seed = options.Trainer.Seed,
            FromScratch = options.FromScratch,
        };
    }

    /// <summary>A new adapter, not yet on the model; null for full fine-tuning.</summary>
    internal static PeftAdapter? CreateAdapter(CausalModel model, ModelConfig config, FineTuneOptions options, Func<LinearSpec, Tensor?>? dense = null)
    {
        IReadOnlyList<LinearSpec> linears = Registry.Architecture(config).Linears(config);
        ulong seed = CounterRandom.Key((ulong)options.Trainer.Seed);
        return options.Method switch
        {
            "full" or "qat" or "bitnet" => null,
            "ia3" => Ia3Adapter.Create(model, linears, options.Ia3),
            "prefix" => PrefixAdapter.Create(model, options.VirtualTokens, options.LowRank.BaseModel, seed),
            "prompt" => PromptAdapter.Create(model, options.VirtualTokens, options.LowRank.BaseModel, seed),
            _ => LoraAdapter.Create(model, linears, options.LowRank, seed, dense),
        };
    }

    /// <summary>Numbers that will be trained, and the layers that get adapters.</summary>
    internal static (long Parameters, IReadOnlyList<string> Modules) Trained(ModelConfig config, FineTuneOptions options)
    {
        IArchitecture architecture = Registry.Architecture(config);
        IReadOnlyList<LinearSpec> linears = architecture.Linears(config);
        ModelFacts facts = architecture.Facts(config);
        long head = (long)facts.Labels * facts.Hidden;
        switch (options.Method)
        {
            case "full" or "qat" or "bitnet":
                return (ModelBuilder.CountParameters(architecture, config), []);
            case "ia3":
                return (head + Ia3Adapter.CountParameters(options.Ia3, linears), Ia3Adapter.Modules(options.Ia3, linears));
            case "prefix":
                return (head + PrefixAdapter.CountParameters(facts, options.VirtualTokens), []);
            case "prompt":
                return (head + ((long)options.VirtualTokens * facts.Hidden), []);
            default:
                IReadOnlyList<LoraTarget> targets = TargetModules.Find(linears, options.LowRank);
                TargetModules.RequirePatternsMatch(options.LowRank, targets);
                long magnitudes = options.LowRank.UseDora ? targets.Sum(target => (long)target.Linear.Out) : 0;
                return (head + magnitudes + targets.Sum(target => target.ParameterCount), [.. targets.Select(target => target.Linear.Path)]);
        }
    }

    /// <summary>Settings that do not go together.</summary>
    internal static void Require(FineTuneOptions options)
    {
        if (!Names.Contains(options.Method))
        {
            Throw.Usage($"unknown tuning method '{options.Method}'", $"known are {string.Join(", ", Names)}", "see docs/finetune.md");
        }

        RequireNumbers(options);
        if (options.Trainer.Packing && (options.Method is "prefix" or "prompt"))
        {
            Throw.Usage($"--packing can't be used with --method {options.Method}", "the virtual tokens stand before the first text of a row only", "leave --packing out");
        }

        if (options.Streaming && (options.Classification || options.Trainer.MaxSteps is null))
        {
            Throw.Usage(
                options.Classification ? "--streaming can't be used with --task classification" : "--streaming needs --max-steps",
                options.Classification ? "the labels of all rows must be known first" : "data that is read while training has no known end, and the learning rate's course needs one",
                options.Classification ? "leave --streaming out" : "give --max-steps, or leave --streaming out");
        }

        if (options.WeightDtype != DType.F32 && options.Method != "full")
        {
            string why = options.UsesAdapter ? "adapters are trained in F32 beside a base that stays as it is stored" : "weights are rounded from F32 masters to the grid that is trained for";
            Throw.Usage("--weights bf16 is for --method full", why, "leave --weights out");
        }

        if (options.Activations != DType.F32 && options.Method is "dora" or "ia3" or "qat" or "bitnet")
        {
            Throw.Usage(
                $"--method {options.Method} trains with activations in F32 only", "its factors of columns, or its rounding, have no kernels in BF16", "leave --activations out, or use lora");
        }

        if (options.Trainer.Optimizer.Kind == OptimizerKind.Muon && options.UsesAdapter)
        {
            Throw.Usage(
                $"--optimizer muon is for --method full, qat and bitnet, not {options.Method}", "it makes the steps of the blocks' own matrices orthogonal; adapters have none of these", "use adamw");
        }

        RequireQuantizedTraining(options);
        if (options.Trainer.OffloadCheckpoints && (!options.Trainer.GradientCheckpointing || !options.Device.StartsWith("cuda", StringComparison.Ordinal)))
        {
            Throw.Usage("--offload-checkpoints needs --gradient-checkpointing and --device cuda", "it moves what checkpointing keeps from a card to the host", "give both, or leave it out");
        }

        if (options.FromScratch && (options.Method != "full" || options.Quantization is not null || options.Classification))
        {
            Throw.Usage("--from-scratch is for --method full and texts", "a model of random numbers has nothing to adapt, quantize or classify with", "use --method full without --quantization");
        }

        if (options.Trainer.EarlyStopping > 0 && (options.EvalData is null || options.Trainer.EvalSteps == 0))
        {
            Throw.Usage("--early-stopping needs --eval-data and --eval-steps", "it counts evaluations that were no better", "give both");
        }
    }

    /// <summary>Numbers with which nothing would be learned, or the opposite of what was meant.</summary>
    private static void RequireNumbers(FineTuneOptions options)
    {
        TrainerSettings trainer = options.Trainer;
        if (trainer.MaxSteps < 1)
        {
            Throw.Usage($"--max-steps {trainer.MaxSteps} trains nothing", "a step is one update of the weights", "give 1 or more, or leave it out for whole --epochs");
        }

        if (!(trainer.LearningRate > 0 && double.IsFinite(trainer.LearningRate)))
        {
            Throw.Usage($"--learning-rate {trainer.LearningRate} makes no sense", "0 learns nothing, and below 0 the loss is made larger", "adapters learn well at 1e-4 to 1e-3, whole models at 1e-5 to 1e-4");
        }

        if (trainer.WarmupSteps < 0)
        {
            Throw.Usage($"--warmup-steps {trainer.WarmupSteps} makes no sense", remedy: "give 0 or more");
        }

        if (trainer.BatchSize < 1 || trainer.GradAccumulationSteps < 1 || trainer.MaxSeqLength < 2 || !(trainer.Epochs > 0))
        {
            Throw.Usage(
                $"{trainer.BatchSize} rows, {trainer.GradAccumulationSteps} passes a step, {trainer.MaxSeqLength} tokens and {trainer.Epochs} epochs can't be trained on",
                "a row has at least two tokens, the second of which is predicted", "give at least 1, 1, 2 and more than 0");
        }

        if (options.UsesAdapter && (options.Lora.Rank < 1 || options.VirtualTokens < 1))
        {
            Throw.Usage($"a rank of {options.Lora.Rank} or {options.VirtualTokens} virtual tokens adapt nothing", remedy: "give 1 or more");
        }

        if (options.UsesAdapter && !(options.Lora.Alpha > 0 && double.IsFinite(options.Lora.Alpha)))
        {
            Throw.Usage($"--alpha {options.Lora.Alpha} makes no sense", "what the adapters add is multiplied by alpha / rank", "leave it out for twice the rank");
        }
    }

    private static string Instructions()
    {
        CpuVariant variant = CpuVariant.Choose();
        return variant.WhyNoBFloat16() is { } why ? $"as F32 multiply-adds: {why}" : variant.BFloat16.Name;
    }

    private static void RequireQuantizedTraining(FineTuneOptions options)
    {
        if (options.Method == "bitnet" && options.Quantization is not null)
        {
            Throw.Usage("--method bitnet takes no --quantization", "its grid is BitNet's: ternary weights, int8 activations", "use --method qat for another grid");
        }

        if (options.LambdaWarmupRatio is not null && options.QuantizedTraining is null)
        {
            Throw.Usage("--lambda-warmup-ratio is for --method qat and bitnet", "nothing else is rounded in part", "leave it out");
        }

        if (options.QuantizedTraining is not { } settings)
        {
            return;
        }

        IQuantizationMethod method = Registry.Method(settings.Weights.Method);
        method.Complete(settings.Weights);
        if (method.NeedsCalibration || method.Name == "int8")
        {
            Throw.Usage(
                $"--method qat can't train for {method.Name}",
                method.NeedsCalibration ? "it chooses codes by the inputs of layers, and weights are rounded anew at every step" : "its product treats columns of large activations apart",
                "use rtn (2 to 8 bits), quanto, hqq, nf4, fp4 or ternary");
        }
    }

    /// <summary>What is kept, trained and computed in which numbers, in words.</summary>
    internal static string Precision(FineTuneOptions options)
    {
        string moments = options.Trainer.Optimizer switch
        {
            { Kind: OptimizerKind.Sgd, Momentum: 0 } => "no states",
            { Kind: OptimizerKind.Sgd } => "momentum in F32",
            { Kind: OptimizerKind.AdamW8Bit } => "moments in 8-bit blocks",
            { Kind: OptimizerKind.Muon } => "Muon's momentum of the blocks' matrices and AdamW's moments of the rest in F32",
            _ => "moments in F32",
        };
        bool isCard = options.Device.StartsWith("cuda", StringComparison.Ordinal);
        string activations = options.Activations != DType.BF16 ? "F32" : isCard ? "BF16 with sums and residuals in F32"
            : $"F32, products of {BFloat16Kernels.FewestRows} rows and more in BF16 with sums in F32 ({Instructions()})";
        string paged = options.Trainer.Optimizer.Paged ? isCard ? ", kept in pinned memory of the host" : ", kept in a file" : string.Empty;
        string stored = ModelConfig.Open(options.Model).QuantMethod ?? options.Quantization?.ToString() ?? (options.Method == "qlora" ? "nf4 double_quant=true" : string.Empty);
        if (options.UsesAdapter)
        {
            string frozen = stored.Length > 0 ? $"base frozen as {stored} codes, never dense" : "base frozen as stored";
            return $"{frozen}; trained numbers and gradients in F32, {moments}{paged}; activations in {activations}";
        }

        if (options.QuantizedTraining is { } quantized)
        {
            string grid = Registry.Method(quantized.Weights.Method).Complete(quantized.Weights).ToString();
            string inputs = quantized.Activations == Backends.ActivationType.Int8 ? "their inputs rounded to int8 by token" : "activations in F32";
            string warmup = quantized.WarmupRatio > 0 ? $", rounding let in over the first {quantized.WarmupRatio:P0} of the steps" : string.Empty;
            return string.Create(
                System.Globalization.CultureInfo.InvariantCulture,
                $"all parameters trained: every matrix of the blocks as {grid} codes of F32 master weights, rounded anew at each step (straight-through gradients), {inputs}{warmup}; embedding, head, norms and biases in F32; gradients in F32, {moments}{paged}; saved as codes");
        }

        string start = options.FromScratch ? "starts at random numbers; " : stored.Length > 0 ? $"starts at the values of {stored} codes, which are then ordinary numbers; " : string.Empty;
        string weights = options.WeightDtype == DType.BF16 ? "matrices in BF16, rounded after each step from F32 master weights" : "weights in F32";
        return $"{start}all parameters trained: {weights}, gradients in F32, {moments}{paged}; activations in {activations}";
    }
}
