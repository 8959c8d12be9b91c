using Nibble.Backends.Cpu;
using Nibble.Backends.Metering;
using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// The memory of a fine-tuning on the processor: its passes run once on a device that only counts, so the lines are what the same
/// code will allocate. What is assumed is the process around it.
/// </summary>
internal static class TrainingMemory
{
    /// <summary>The runtime, its heap, the tokenizer and rows of tokens: measured on small models.</summary>
    private const long ProcessBytes = 45_000_000;

    private const int ProbeSize = 256;

    /// <summary>Counts.</summary>
    public static IReadOnlyList<MemoryLine> Lines(ModelConfig config, FineTuneOptions options)
    {
        IArchitecture architecture = Registry.Architecture(config);
        DType dense = options.UsesAdapter ? Stored(config) : options.WeightDtype;
        using MeteredBackend backend = new(CpuVariant.Choose().PanelWidth);
        using MeteredWeights weights = new(config, architecture, dense, options.UsesAdapter ? QuantizedBits(config, options) : null);
        using CausalModel model = ModelBuilder.Build(config, weights, backend);
        List<MemoryLine> lines = [new("weights", backend.Bytes, weights.Words)];
        using ParameterSet parameters = new();
        FineTuneOptions plain = options with { Lora = options.Lora with { Init = LoraInit.Kaiming } };
        using PeftAdapter? adapter = TuningMethod.CreateAdapter(model, config, plain);
        using QuantizedTraining? quantized = options.QuantizedTraining is { } settings ? new QuantizedTraining(model, config, settings) : null;
        if (quantized is not null)
        {
            // The matrices in "weights" are the rounded ones; their masters stand among the parameters.
            quantized.AddTo(parameters);
        }
        else if (adapter is null)
        {
            parameters.AddAll(model);
        }
        else
        {
            long before = backend.Bytes;
            adapter.Attach(model);
            lines.Add(new MemoryLine("adapters", adapter.ByteLength + backend.Bytes - before, "F32"));
            adapter.AddTo(parameters);
        }

        lines.Add(new MemoryLine("gradients and master weights", parameters.ByteLength, $"{parameters.Count:N0} trained numbers, F32"));
        using Optimizer optimizer = Optimizer.Create(parameters, backend, options.Trainer.Optimizer);
        lines.Add(new MemoryLine("optimizer states", optimizer.ByteLength, options.Trainer.Optimizer.Kind.ToString()));
        lines.AddRange(Passes(model, parameters, options, adapter));
        lines.Add(new MemoryLine("process", ProcessBytes, "runtime, heap, tokenizer and rows of tokens: assumed"));
        return lines;
    }

    private static IEnumerable<MemoryLine> Passes(CausalModel model, ParameterSet parameters, FineTuneOptions options, PeftAdapter? adapter)
    {
        int length = Math.Min(options.Trainer.MaxSeqLength, model.Facts.Context), batch = options.Trainer.BatchSize;
        using TrainingPass pass = new(model, parameters, options.Trainer.GradientCheckpointing, adapter?.Prompt);
        int[] ids = new int[batch * length];
        // The workspace becomes one piece in the second pass, which then may grow.
        pass.Run(new TrainingBatch(ids, ids, batch, length), 1);
        pass.Run(new TrainingBatch(ids, ids, batch, length), 1);
        (long forward, long backward, long cache) = pass.Parts;
        yield return new MemoryLine("activations", forward, $"{batch} × {length:N0} tokens, kept by the forward pass, logits of a block of positions among them");
        yield return new MemoryLine("gradients of activations, saved copies", backward, "at most at once");
        yield return new MemoryLine("keys and values", cache, "F32");
        if (options.EvalData is not null)
        {
            yield return new MemoryLine("evaluation", EvaluationBytes(model, length), $"{HeldOut.RowsPerPass} × {length:N0} tokens");
        }
    }

    private static long EvaluationBytes(CausalModel model, int length)
    {
        MeteredBackend backend = (MeteredBackend)model.Backend;
        long before = backend.Bytes;
        using Workspace workspace = new(backend);
        using KvCache cache = new(model, HeldOut.RowsPerPass, length);
        using Workspace.Scope scope = workspace.Begin();
        Tensor ids = workspace.Rent(new Shape(HeldOut.RowsPerPass * length), DType.I32);
        model.Forward(new ModelInput(ids, ids, HeldOut.RowsPerPass, length), cache, workspace);
        return backend.Bytes - before;
    }

    private static DType Stored(ModelConfig config) => config.Root.GetString("dtype|torch_dtype", "float32") switch
    {
        "bfloat16" => DType.BF16,
        "float16" => DType.F16,
        _ => DType.F32,
    };

    /// <summary>Bits of a weight in the blocks' packing, scales included; null for dense ones.</summary>
    private static double? QuantizedBits(ModelConfig config, FineTuneOptions options)
    {
        QuantizationSettings? settings = options.Quantization
            ?? (config.QuantMethod is not null ? OfFolder(config) : options.Method == "qlora" ? new QuantizationSettings { Method = "nf4", DoubleQuant = true } : null);
        if (settings is null)
        {
            return null;
        }

        // A small matrix in the packing that the large ones will have.
        using Tensor matrix = Tensor.OnHost(new Shape(ProbeSize, ProbeSize), DType.F32);
        matrix.HostSpan<float>().Fill(1);
        IQuantizationMethod method = Registry.Method(settings.Method);
        using QuantizedWeight weight = method.Quantize("probe", matrix, method.Complete(settings));
        using CpuBackend backend = new(new CpuOptions(1, null));
        using IPackedWeight packed = backend.Prepare(weight, ActivationType.F32);
        return 8.0 * packed.ByteLength / (ProbeSize * ProbeSize);
    }

    private static QuantizationSettings OfFolder(ModelConfig config)
    {
        int bits = config.Root.Section("quantization_config")?.GetInt("bits|nbits|w_bit", 4, min: 1, max: 8) ?? 4;
        return config.QuantMethod == "bitsandbytes" ? new QuantizationSettings { Method = "nf4", DoubleQuant = true } : new QuantizationSettings { Method = "rtn", Bits = bits };
    }
}
