using System.Text.Json;
using Nibble.Backends.Cpu;
using Nibble.Bench.Benches;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Bench;

/// <summary>Runs benches by name: <c>dotnet run -c Release --project bench/Nibble.Bench -- NAME… [options]</c>.</summary>
internal static class BenchCommand
{
    private static readonly Bench[] All =
    [
        new("roofline", "raw read rate and multiply-add peak of this processor", Roofline.Run),
        new("forkjoin", "cost of one empty run of the thread pool, beside Parallel.For", ForkJoin.Run),
        new("sgemm", "matrix product against the multiply-add peak measured in the same rounds; --peer openblas=PATH", Sgemm.Run),
        new("bf16", "products in BF16, forward and backward, by every kind of kernel, beside F32 in the same rounds", BFloat16Bench.Run),
        new("gemv", "one row times a matrix in F32 and BF16 against raw reading", Gemv.Run),
        new("qgemv", "one row times packed weights of every kind, against raw reading and against F32", QuantGemv.Run),
        new("qgemm", "several rows times packed weights of every kind, against the dense F32 product", QuantGemm.Run),
        new("igemm", "int8 products of 512 to 2048 rows against the int8 multiply-add peak of C#; --peer onednn=PATH", IntegerGemm.Run),
        new("attention", "prefill and decode attention", AttentionBench.Run),
        new("elementwise", "norms and activations in ns per element", ElementwiseBench.Run),
        new("decode", "whole models: prefill and decode in tokens a second; --model PATH, else random weights", DecodeBench.Run),
        new("serve", "a server with 1 to 8 clients that read streams, beside the library's batch of as many prompts; --model PATH, else the embedded GPT-2", ServeBench.Run),
        new("models", "whole models of true shapes with random weights: prompt, decoding against raw reading, peak memory; --peer llama-bench=PATH --peer-models FOLDER", ModelSpeed.Run),
        new("prefill", "a prompt through LLaMA 1.1 B shapes: machine code beside the compiled kernels of the same rounds", PrefillBench.Run),
        new("prefill-bf16", "a prompt through GPT-2 124 M and LLaMA 1.1 B shapes: products in F32, BF16 and int8 in the same rounds; --model gpt2-124m", PrefillBench.RunBFloat16),
        new("step", "a decoding step after 2,016 tokens, op by op, with each form of the cache; fails if a small op takes above 5 %", DecodeProfile.Run),
        new("cpu-all", "all figures of the processor's engine, each with its limit; some minutes", CpuAll.Run),
        new("train", "training steps of a 10 M GPT-2, batch 8 × 256: full, LoRA, QLoRA", TrainBench.Run),
        new("stream", "training that reads 1 GB of rows while it runs: time to the first step and peak memory, beside 16 MB", StreamBench.Run),
        new("tuning", "what full, LoRA and QLoRA tuning gain on another domain, over seeds (--rounds): the recipe of tools/peft_recipe.py; minutes", TuningBench.Run),
        new("tuning-bf16", "the recipe of tuning with products in F32 and in BF16, over seeds (--rounds): losses beside each other; minutes", TuningBench.RunBFloat16),
        new("forgetting", "the same and prefix tuning, and what each cost on general text: perplexity and KL; minutes", TuningBench.RunForgetting),
        new("adapters", "switching between adapters on one base; --model PATH, else the embedded GPT-2", AdapterSwitch.Run),
        new("bag-of-words", "TweetEval sentiment by logistic regression over words: what a tuned model has to beat", BagOfWords.Run),
        new("tokenizer", "encoding and decoding on one core, at first sight and warm", TokenizerBench.Run),
        new("quantize", "weights per second of the data-free methods", QuantizeBench.Run),
        new("gptq-layer", "GPTQ of one layer at LLaMA-7B shapes: Gram matrix, factorization, solve against the multiply-add peak; minutes", GptqLayerBench.Run),
        new("methods", "RTN, HQQ, GPTQ, AWQ at 3 and 4 bits: perplexity over 51,200 tokens, paired, over seeds of the calibration (--rounds); --model, --data, --calibration, --samples", MethodsBench.Run),
        new("layer-error", "error of GPTQ's layers, with weights and Gram matrices written to --output for other programs; --model and --data", LayerErrorBench.Run),
        new("awq-error", "error of the layers that AWQ scales, with the samples written to --output for other programs; --model and --data", AwqErrorBench.Run),
        new("budget", "mixed precision to a budget against uniform plans of equal bytes: KL over 50,000 tokens, paired", BudgetBench.Run),
        new("gguf-open", "opening GGUF files: a vocabulary of 128,256 tokens, and 4 GB of tensors; fails above 0.5 s and 1 s", GgufOpenBench.Run),
        new("quantize-memory", "peak memory and time of quantizing a 2 GB folder; fails above six times the largest tensor and 200 MB", QuantizeBench.RunMemory),
        new("calibrate-memory", "peak memory of GPTQ on blocks of LLaMA 1.1 B shapes; fails above one block, its statistics and hidden states, or if more blocks take more; minutes", CalibrationMemoryBench.Run),
        new("cuda-verify", "every kernel on an NVIDIA card against its reference; fails if one differs", CudaBenches.Verify),
        new("cuda-gemv", "1 to 1024 rows times packed weights on an NVIDIA card, over weights of four times its cache", CudaBenches.Gemv),
        new("cuda-int8", "LLM.int8 on an NVIDIA card: rounding, product and outlier columns, 1 to 2048 rows", CudaBenches.Int8),
        new("cuda-flash", "attention in BF16 on an NVIDIA card, forward and with its gradient, by the card's clock", CudaTrainBench.Attention),
        new("cuda-train", "training in BF16 on an NVIDIA card: GPT-2 full, LLaMA-7B QLoRA at true shapes with random weights; tok/s, memory, energy", CudaTrainBench.Run),
        new("cuda-finetune", "the embedded model tuned on the processor and on a card: losses, hashes of two runs and of a resumed one, BF16 within seeds", CudaFineTuneBench.Run),
        new("cuda-quantize", "quantization on an NVIDIA card: 7B shapes by method, GPTQ with 128 × 2048 tokens, the embedded model against the processor; --kernels PARTS", CudaQuantizeBench.Run),
        new("cuda-decode", "a LLaMA of 7B true shapes, random weights, on an NVIDIA card: prompt of 512 tokens, then tokens one by one; in BF16", CudaModelBenches.Run),
        new("cuda-batch", "the same model decoding 1, 4, 16 and 32 texts at once", CudaModelBenches.Batches),
        new("cuda-serve", "serve on an NVIDIA card, in F32 and BF16: clients beside the library's batch, and whose texts are their prompts' own", ServeBench.OnCard),
        new("cuda-perplexity", "the same model scoring 8 texts of 1024 tokens", CudaModelBenches.Perplexity),
        new("verify-kernels", "every kernel and variant against its reference; fails if one differs", VerifyKernels.Run),
    ];

    public static int Run(string[] args)
    {
        try
        {
            if (args is [QuantizeBench.Child, var source, var output, var method])
            {
                return QuantizeBench.RunChild(source, output, method);
            }

            if (args is [CalibrationMemoryBench.Child, var model, var target])
            {
                return CalibrationMemoryBench.RunChild(model, target);
            }

            BenchOptions options = BenchOptions.Parse(args);
            List<Bench> chosen = [.. options.Names.Select(Find)];
            if (chosen.Count == 0)
            {
                Console.Error.WriteLine("benches:\n" + string.Join('\n', All.Select(b => $"  {b.Name,-16}{b.What}")));
                Console.Error.WriteLine("options: --threads N  --kernels NAME  --rounds N  --json  --peer openblas=PATH  --peer llama-bench=PATH  --peer-models FOLDER  --peer onednn=PATH  --model PATH  --data PATH  --calibration PATH  --samples N  --output PATH  --method NAME  --processor-time  --small");
                return 2;
            }

            Clock.ProcessorTimeThreads = options.ProcessorTime ? CpuThreads.Choose(options.Threads) : 0;
            BenchReport report = new(options);
            foreach (Bench bench in chosen)
            {
                report.Begin(bench.Name);
                bench.Body(options, report);
            }

            if (options.Json)
            {
                Console.Out.WriteLine(JsonSerializer.Serialize(report.ToDocument(), BenchReport.JsonOptions));
            }

            return report.Failed ? 1 : 0;
        }
        catch (NibbleException error)
        {
            Console.Error.WriteLine(error.Message);
            return (int)error.Kind;
        }
    }

    private static Bench Find(string name)
    {
        Bench? bench = Array.Find(All, b => b.Name == name);
        if (bench is null)
        {
            Throw.Usage($"no bench \"{name}\"", null, "choose from: " + string.Join(", ", All.Select(b => b.Name)));
        }

        return bench;
    }

    private sealed record Bench(string Name, string What, Action<BenchOptions, BenchReport> Body);
}

/// <summary>What the command line asks for.</summary>
internal sealed record BenchOptions(List<string> Names, int? Threads, string? Kernels, int Rounds, bool Json, string? OpenBlas, string? Model = null, bool ProcessorTime = false)
{
    /// <summary>A text to measure on, one to calibrate on, and a folder to write to, for the benches that ask for them.</summary>
    public string? Data { get; init; }

    public string? Calibration { get; init; }

    public string? Output { get; init; }

    /// <summary>Samples of a calibration, for the benches that calibrate; null: what the bench takes by itself.</summary>
    public int? Samples { get; init; }

    /// <summary>llama.cpp's llama-bench, and the folder of its models, named SHAPES-BITS.gguf (16, 8, 4, ternary).</summary>
    public string? LlamaBench { get; init; }

    public string? PeerModels { get; init; }

    /// <summary>A program that multiplies M × K bytes with K × N bytes by oneDNN (bench/peers/onednn_int8.c).</summary>
    public string? OneDnn { get; init; }

    /// <summary>The one method that <c>train</c> measures; null for all.</summary>
    public string? Method { get; init; }

    /// <summary>Fewer sizes of long checks, for programs that watch every access.</summary>
    public bool Small { get; init; }

    public CpuBackend CreateBackend(DType compute = DType.F32) => new(new CpuOptions(Threads, Kernels, compute));

    public static BenchOptions Parse(string[] args)
    {
        BenchOptions options = new([], null, null, 9, false, null);
        for (int i = 0; i < args.Length; i++)
        {
            options = args[i] switch
            {
                "--json" => options with { Json = true },
                "--small" => options with { Small = true },
                "--processor-time" => options with { ProcessorTime = true },
                "--threads" => options with { Threads = Number(args, ++i) },
                "--rounds" => options with { Rounds = Number(args, ++i) },
                "--kernels" => options with { Kernels = Text(args, ++i) },
                "--model" => options with { Model = Text(args, ++i) },
                "--data" => options with { Data = Text(args, ++i) },
                "--calibration" => options with { Calibration = Text(args, ++i) },
                "--output" => options with { Output = Text(args, ++i) },
                "--method" => options with { Method = Text(args, ++i) },
                "--samples" => options with { Samples = Number(args, ++i) },
                "--peer" => Peer(options, Text(args, ++i)),
                "--peer-models" => options with { PeerModels = Text(args, ++i) },
                _ when !args[i].StartsWith('-') => options with { Names = [.. options.Names, args[i]] },
                _ => Unknown(args[i]),
            };
        }

        return options;
    }

    private static BenchOptions Unknown(string option)
    {
        Throw.Usage($"no option \"{option}\"", null, "options: --threads, --kernels, --rounds, --json, --peer, --peer-models, --model, --data, --calibration, --samples, --output, --method, --processor-time, --small");
        return null;
    }

    private static string Text(string[] args, int i)
    {
        if (i >= args.Length)
        {
            Throw.Usage($"{args[i - 1]} needs a value");
        }

        return args[i];
    }

    private static int Number(string[] args, int i)
    {
        if (!int.TryParse(Text(args, i), out int value) || value < 1)
        {
            Throw.Usage($"{args[i - 1]} needs a number ≥ 1, not \"{args[i]}\"");
        }

        return value;
    }

    private static BenchOptions Peer(BenchOptions options, string text)
    {
        string[] parts = text.Split('=', 2);
        switch (parts)
        {
            case ["openblas", var path]: return options with { OpenBlas = path };
            case ["llama-bench", var path]: return options with { LlamaBench = path };
            case ["onednn", var path]: return options with { OneDnn = path };
            default:
                Throw.Usage($"no peer \"{text}\"", null, "give openblas=PATH, the path of a libopenblas.so, llama-bench=PATH with --peer-models FOLDER, or onednn=PATH, bench/peers/onednn_int8.c as a program");
                return options;
        }
    }
}
