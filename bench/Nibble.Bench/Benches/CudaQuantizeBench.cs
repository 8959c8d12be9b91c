using System.Diagnostics;
using System.Security.Cryptography;
using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;
using Nibble.Benchmarks;
using Nibble.Energy;
using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Bench.Benches;

/// <summary>
/// Quantization on a card: LLaMA-7B's true shapes with random weights (made one block at a time), and the embedded model against the processor. Parts are
/// chosen by --kernels: verify (the methods of <c>cuda-verify</c>), methods, gptq, command, embedded. The part <c>command</c> needs --output: it writes a folder of 13.5 GB there and runs what the command runs, for --method METHODS.
/// </summary>
internal static class CudaQuantizeBench
{
    private const int Samples = 128, Length = 2048;

    private static readonly QuantizationSettings[] DataFree =
        [new() { Method = "nf4" }, new() { Method = "rtn" }, new() { Method = "int8" }, new() { Method = "hqq", Bits = 4 }];

    private static readonly QuantizationSettings Gptq = Registry.Method("gptq").Complete(new() { Method = "gptq", Bits = 4, GroupSize = 128 });

    public static void Run(BenchOptions options, BenchReport report)
    {
        string parts = options.Kernels ?? "methods gptq embedded";
        foreach (string part in parts.Split(' ', ','))
        {
            switch (part.Split(':')[0])
            {
                case "verify":
                    RunChecks(report);
                    break;
                case "methods":
                    RunMethods(report);
                    break;
                case "gptq":
                    // gptq:4 takes four blocks of the 32.
                    RunGptq(report, Blocks(part), options.ProcessorTime);
                    break;
                case "command":
                    RunCommand(report, Blocks(part), options.Method, options.Output ?? throw new ArgumentException("the part command needs --output FOLDER"));
                    break;
                case "embedded":
                    RunEmbedded(report);
                    break;
                default:
                    Throw.Usage($"no part \"{part}\"", null, "choose from verify, methods, gptq, command, embedded");
                    break;
            }
        }
    }

    private static void RunChecks(BenchReport report)
    {
        foreach (DType compute in new[] { DType.F32, DType.BF16 })
        {
            using CudaBackend backend = new(new CudaOptions(Compute: compute));
            foreach (KernelCheck check in QuantizerChecks.All)
            {
                report.Check($"{check.Name}, {compute}", CudaBenches.Failure(() => check.Run(backend)));
            }
        }
    }

    private static int Blocks(string part) => part.Contains(':') ? int.Parse(part.Split(':')[1], System.Globalization.CultureInfo.InvariantCulture) : 32;

    /// <summary>Every matrix of 7B's blocks: the kernels' own time, and the time from BF16 on the host to codes on the host.</summary>
    private static void RunMethods(BenchReport report)
    {
        LinearSpec[] specs = [.. Specs(ModelShapes.Config("llama-7b"))];
        using HostWeights weights = new();
        foreach (QuantizationSettings chosen in DataFree)
        {
            QuantizationSettings settings = Registry.Method(chosen.Method).Complete(chosen);
            using (CudaDevice device = CudaDevice.Open(0))
            {
                ProfilingDevice profile = new(device);
                using CudaBackend backend = new(profile);
                double seconds = 0;
                foreach (IGrouping<(nint, nint), LinearSpec> same in specs.GroupBy(spec => (spec.Out, spec.In)))
                {
                    Quantize(backend, weights, same.First(), settings);
                    profile.Reset();
                    Quantize(backend, weights, same.First(), settings);
                    seconds += same.Count() * profile.Times.Sum(item => item.Seconds);
                }

                report.Add($"7B {chosen.Method}: kernels", [seconds], "s");
            }

            using CudaBackend plain = new();
            using PeakMemory memory = new();
            using NvmlMeter? meter = NvmlMeter.TryStart(plain);
            long start = Stopwatch.GetTimestamp();
            foreach (LinearSpec spec in specs)
            {
                Quantize(plain, weights, spec, settings);
            }

            report.Add($"7B {chosen.Method}: from BF16 on the host to codes there", [Stopwatch.GetElapsedTime(start).TotalSeconds], "s");
            Memory(report, $"7B {chosen.Method}", plain, memory, meter);
        }
    }

    private static void Quantize(IBackend backend, HostWeights weights, LinearSpec spec, QuantizationSettings settings) =>
        backend.Quantizer!.Quantize(spec.Path, weights.Of(spec), settings).Weight.Dispose();

    /// <summary>GPTQ block by block from weights in host memory; codes come back and are dropped. --processor-time: call by call.</summary>
    private static void RunGptq(BenchReport report, int blocks, bool callByCall)
    {
        ModelConfig config = Config(blocks);
        using CudaDevice device = CudaDevice.Open(0);
        using ProfilingDevice? profile = callByCall ? new ProfilingDevice(device) : null;
        using CudaBackend backend = new(profile ?? (ICudaDevice)device, DType.BF16);
        using HostWeights weights = new();
        using PeakMemory memory = new();
        using NvmlMeter? meter = NvmlMeter.TryStart(backend);
        PhaseTimes times = new();
        long start = Stopwatch.GetTimestamp();
        IReadOnlyList<int[]> samples = [.. Enumerable.Range(0, Samples).Select(sample => Enumerable.Range(0, Length).Select(i => (int)(CounterRandom.Bits((ulong)sample, (ulong)i) % 32000)).ToArray())];
        using StreamedBlocks model = new(config, weights.Source(config), backend, () => throw new NotSupportedException("random tokens need no tokenizer"));
        using (times.In("forward"))
        using (BlockCalibration calibration = new(model.Model, samples, states: DType.BF16) { Times = times })
        {
            Dictionary<string, Nn.ILinear> layers = [];
            calibration.BeforeBlock = block =>
            {
                using (times.In("load"))
                {
                    model.Load(block);
                    backend.Synchronize();
                }

                layers = block.Linears.ToDictionary(linear => linear.Path);
            };
            calibration.AfterBlock = StreamedBlocks.Unload;
            calibration.Run((path, statistics) =>
            {
                using PhaseTimes.Scope scope = times.In("quantize");
                MadeLayer layer = ((IBackend)backend).Quantizer!.QuantizeLayer(path, layers[path].Weight, Gptq, statistics);
                layer.Made.Weight.Dispose();
                return layer.Values;
            });
            backend.Synchronize();
        }

        string name = $"7B gptq 4 bit, group 128, {Samples} × {Length}, {blocks} of 32 blocks";
        report.Add(name, [Stopwatch.GetElapsedTime(start).TotalSeconds], "s");
        foreach ((string phase, double seconds) in times.Seconds)
        {
            report.Add($"{name}: {phase}", [seconds], "s");
        }

        Memory(report, name, backend, memory, meter);
        foreach ((string call, int count, double seconds) in profile?.Times.Take(40) ?? [])
        {
            report.Add($"{count}x {call}", [1e3 * seconds], "ms");
        }
    }

    /// <summary>The command's own work, from a folder to a folder.</summary>
    private static void RunCommand(BenchReport report, int blocks, string? method, string folder)
    {
        string source = Path.Combine(folder, "model"), text = Path.Combine(folder, "text.txt");
        long start = Stopwatch.GetTimestamp();
        WriteModel(source, Config(blocks));
        WriteText(text);
        report.Add($"writing {blocks} blocks of 7B", [Stopwatch.GetElapsedTime(start).TotalSeconds], "s");
        foreach (QuantizationSettings settings in new[] { DataFree[0], DataFree[3], Gptq }.Where(settings => method is null || method.Split(',').Contains(settings.Method)))
        {
            string output = Path.Combine(folder, settings.Method);
            using PeakMemory memory = new();
            QuantizerOptions options = new()
            {
                Device = "cuda",
                Calibration = settings.Method == "gptq" ? new CalibrationRequest(text) { Samples = Samples, Length = Length, States = DType.BF16 } : null,
            };
            QuantizationResult result = Quantizer.Run(source, output, new PlanRequest(settings), options);
            string name = $"{settings.Method}, folder to folder, {blocks} of 32 blocks";
            report.Add(name, [result.Seconds], "s");
            foreach ((string phase, double seconds) in result.Phases)
            {
                report.Add($"{name}: {phase}", [seconds], "s");
            }

            report.Add($"{name}: memory of the card", [result.DevicePeakMemoryBytes!.Value / 1e9], "GB");
            report.Add($"{name}: memory of the host", [memory.Bytes() / 1e9], "GB");
            report.Add($"{name}: energy above idle", [result.EnergyJoules ?? double.NaN], "J");
            Directory.Delete(output, recursive: true);
        }
    }

    /// <summary>The embedded model on the processor and on the card: equal folders of data-free methods, perplexities of the others, two runs on the card.</summary>
    private static void RunEmbedded(BenchReport report)
    {
        string source = AssetFolder.Find("assets/nibble-gpt2-10m"), root = Directory.CreateTempSubdirectory("nibble-quantize").FullName;
        string text = File.ReadAllText(AssetFolder.Find("assets/text/test.txt"))[..60_000];
        int count = 0;
        string Make(QuantizationSettings settings, string device, DType states = DType.F32)
        {
            string output = Path.Combine(root, $"{count++}");
            CalibrationRequest? calibration = Registry.Method(settings.Method).NeedsCalibration ? new CalibrationRequest("demo") { Samples = 32, States = states } : null;
            Quantizer.Run(source, output, new PlanRequest(settings), new QuantizerOptions { Device = device, Calibration = calibration });
            return output;
        }

        try
        {
            foreach (QuantizationSettings settings in DataFree[..3])
            {
                report.Check($"{settings.Method}: the card writes the processor's folder", Hash(Make(settings, "cuda")) == Hash(Make(settings, "cpu")) ? null : "the files differ");
            }

            foreach (QuantizationSettings settings in new[] { DataFree[3], Gptq, Gptq with { Bits = 3, GroupSize = 64, ActOrder = true }, new() { Method = "awq", Bits = 4, GroupSize = 128 } })
            {
                string first = Make(settings, "cuda");
                double cpu = Perplexity(Make(settings, "cpu"), text), card = Perplexity(first, text);
                report.Check($"{settings.Method} {settings.Bits}: two runs on the card give one folder", Hash(first) == Hash(Make(settings, "cuda")) ? null : "the files differ");
                report.Add($"{settings.Method} {settings.Bits}: perplexity by the processor", [cpu], "");
                report.Add($"{settings.Method} {settings.Bits}: perplexity by the card", [card], "");
                report.Check($"{settings.Method} {settings.Bits}: perplexities within 1 %", Math.Abs(card / cpu - 1) <= 0.01 ? null : $"{cpu} and {card}");
            }

            report.Add("gptq 4: perplexity by the card, calibrated in BF16", [Perplexity(Make(Gptq, "cuda", DType.BF16), text)], "");
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    private static double Perplexity(string folder, string text)
    {
        using LoadedModel model = LoadedModel.Load(folder, new LoadOptions { Device = "cuda" });
        return model.Perplexity(text);
    }

    private static string Hash(string folder) => string.Join(' ', Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal).Select(file => Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(file)))));

    private static void Memory(BenchReport report, string name, CudaBackend backend, PeakMemory memory, NvmlMeter? meter)
    {
        report.Add($"{name}: memory of the card", [backend.PeakBytes / 1e9], "GB");
        report.Add($"{name}: memory taken from the card", [backend.Memory.Allocator.ReservedBytes / 1e9], "GB");
        report.Add($"{name}: memory of the host", [memory.Bytes() / 1e9], "GB");
        if (meter is not null)
        {
            report.Add($"{name}: energy above idle", [meter.Joules()], "J");
        }
    }

    private static IEnumerable<LinearSpec> Specs(ModelConfig config) => Registry.Architecture(config).Linears(config).Where(spec => spec.Role == LinearRole.Block);

    private static ModelConfig Config(int blocks) => ModelConfig.Parse(Json(blocks), "7B shapes");

    private static byte[] Json(int blocks) => System.Text.Encoding.UTF8.GetBytes(
        """{"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": BLOCKS, """.Replace("BLOCKS", $"{blocks}", StringComparison.Ordinal)
        + """ "num_attention_heads": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-5, "tie_word_embeddings": false}""");

    private static void WriteModel(string folder, ModelConfig config)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllBytes(Path.Combine(folder, "config.json"), Json(config.Text.GetInt("num_hidden_layers")));
        string assets = AssetFolder.Find("assets/nibble-llama-4m");
        foreach (string name in HfFolderWriter.TokenizerFiles.Where(name => File.Exists(Path.Combine(assets, name))))
        {
            File.Copy(Path.Combine(assets, name), Path.Combine(folder, name), overwrite: true);
        }

        IArchitecture architecture = Registry.Architecture(config);
        using HostWeights weights = new();
        (string Name, Shape Shape)[] all = [.. architecture.Linears(config).Select(spec => (spec.WeightName, spec.StoredShape)), .. architecture.Vectors(config).Select(spec => (spec.Name, spec.Shape))];
        using HfFolderWriter writer = new(folder, all.Select(item => new SafetensorsSpec(item.Name, "BF16", [.. Enumerable.Range(0, item.Shape.Rank).Select(i => (long)item.Shape[i])])));
        foreach ((string name, Shape shape) in all)
        {
            writer.Append(name, weights.Of(shape));
        }

        writer.Commit();
    }

    // Words of the calibration text in random order.
    private static void WriteText(string path)
    {
        string[] words = File.ReadAllText(AssetFolder.Find("assets/text/calibration.txt")).Split(' ', StringSplitOptions.RemoveEmptyEntries);
        Random random = new(1);
        File.WriteAllText(path, string.Join(' ', Enumerable.Range(0, Samples * Length).Select(_ => words[random.Next(words.Length)])));
    }

    /// <summary>BF16 matrices on the host, one of each shape; vectors are ones.</summary>
    private sealed class HostWeights : IDisposable
    {
        private readonly Dictionary<string, Tensor> _known = [];

        public Tensor Of(LinearSpec spec) => Of(new Shape(spec.Out, spec.In));

        public Tensor Of(Shape shape)
        {
            if (!_known.TryGetValue(shape.ToString(), out Tensor? tensor))
            {
                _known.Add(shape.ToString(), tensor = Tensor.OnHost(shape, DType.BF16));
                Span<ushort> values = tensor.HostSpan<ushort>();
                ulong state = (ulong)shape.Count;
                for (int i = 0; i < values.Length; i++)
                {
                    // A sum of four uniform numbers is normal enough; a deviation of 0.02, as models are initialized.
                    state = (state * 6364136223846793005) + 1442695040888963407;
                    ulong bits = state ^ (state >> 29);
                    float sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
                    values[i] = shape.Rank == 1 ? (ushort)0x3f80 : (ushort)(BitConverter.SingleToUInt32Bits(((sum / 65536f) - 2) * 0.035f) >> 16);
                }
            }

            return tensor;
        }

        public IWeightSource Source(ModelConfig config) => new Weights(this, config);

        public void Dispose()
        {
            foreach (Tensor tensor in _known.Values)
            {
                tensor.Dispose();
            }
        }

        private sealed class Weights(HostWeights all, ModelConfig config) : IWeightSource
        {
            private readonly Dictionary<string, Shape> _shapes = Registry.Architecture(config).Linears(config).Select(spec => (spec.WeightName, spec.StoredShape))
                .Concat(Registry.Architecture(config).Vectors(config).Select(spec => (spec.Name, spec.Shape))).ToDictionary(item => item.Item1, item => item.Item2);

            public string Source => "random weights";

            public IReadOnlyCollection<string> Names => _shapes.Keys;

            public Shape? ShapeOf(string name) => _shapes.TryGetValue(name, out Shape shape) ? shape : null;

            public Tensor Tensor(string name) => all.Of(_shapes[name]).To(DType.BF16);

            public string? Problem(LinearSpec spec) => null;

            public IPackedWeight Linear(LinearSpec spec, IBackend backend) => backend.Prepare(all.Of(spec));

            public void Dispose()
            {
            }
        }
    }
}
