using System.Security.Cryptography;
using Nibble.Backends.Cuda.Driver;
using Nibble.IO;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Bench.Benches;

/// <summary>Fine-tuning of the embedded model on a card beside the processor, through what the command runs.</summary>
internal static class CudaFineTuneBench
{
    private const int Steps = 50, ShortSteps = 6;

    // The LLaMA's heads share keys and values in pairs: cuDNN's gradients of them are added up by a kernel of our own.
    private const string Gpt = "assets/nibble-gpt2-10m", Grouped = "assets/nibble-llama-4m";

    private static readonly (string Model, string Method, DType Activations)[] Repeated =
    [
        (Gpt, "full", DType.F32), (Gpt, "dora", DType.F32), (Gpt, "prefix", DType.F32), (Gpt, "full", DType.BF16), (Gpt, "qlora", DType.BF16),
        (Grouped, "full", DType.BF16), (Grouped, "lora", DType.BF16),
    ];

    /// <summary>Full and adapters, each as the command runs it.</summary>
    public static void Run(BenchOptions options, BenchReport report)
    {
        using TempFolders folders = new();
        double[] cpu = Losses(folders.Run("cpu", "full", Steps, DType.F32, 1234)), cuda = Losses(folders.Run("cuda", "full", Steps, DType.F32, 1234));
        report.Add($"full, {Steps} steps: largest difference of losses between cpu and cuda in F32", [cpu.Zip(cuda).Max(pair => Math.Abs(pair.First - pair.Second))], "nats");
        report.Check("losses agree to 1e-3", cpu.Zip(cuda).All(pair => Math.Abs(pair.First - pair.Second) <= 1e-3) ? null : string.Join(", ", cpu.Zip(cuda)));
        foreach ((string model, string method, DType activations) in Repeated)
        {
            string Once(bool interrupt = false) => Hash(folders.Run("cuda", method, ShortSteps, activations, 1, interrupt, model));
            (string first, string second, string resumed) = (Once(), Once(), Once(interrupt: true));
            string name = $"{Path.GetFileName(model)}, {method}, {activations}";
            report.Check($"{name}: two runs and a resumed one have one hash", first == second && first == resumed ? null : $"{first} {second} {resumed}");
            if (activations == DType.BF16 && CudnnAttention.Problem() is null)
            {
                // Other kernels round in other places: equal bytes would mean that cuDNN had no part in the runs above.
                report.Check($"{name}: those runs' attention was cuDNN's", Own(() => Once()) != first ? null : "own kernels give the same bytes");
            }
        }

        double[] exact = [.. Enumerable.Range(1, 3).Select(seed => folders.Run("cuda", "full", Steps, DType.F32, seed).Report.HeldOutAfter!.Value)];
        double[] half = [.. Enumerable.Range(1, 3).Select(seed => folders.Run("cuda", "full", Steps, DType.BF16, seed).Report.HeldOutAfter!.Value)];
        report.AddMean($"full, {Steps} steps, held out, F32", exact, "nats");
        report.AddMean($"full, {Steps} steps, held out, BF16", half, "nats");
        report.Check("BF16 lies within the spread of seeds", half.All(loss => loss <= exact.Max() + (exact.Max() - exact.Min()) && loss >= exact.Min() - (exact.Max() - exact.Min())) ? null : $"{string.Join(", ", exact)} / {string.Join(", ", half)}");
    }

    private static string Own(Func<string> run)
    {
        Environment.SetEnvironmentVariable(CudnnAttention.Variable, "own");
        try
        {
            return run();
        }
        finally
        {
            Environment.SetEnvironmentVariable(CudnnAttention.Variable, null);
        }
    }

    private static double[] Losses((FineTuneReport Report, string Folder) run) => [.. run.Report.Log.Select(step => step.Loss)];

    private static string Hash((FineTuneReport Report, string Folder) run) => Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(
        Directory.EnumerateFiles(run.Folder, "*.safetensors").Order(StringComparer.Ordinal).First())));

    private sealed class TempFolders : IDisposable
    {
        private readonly string _root = Directory.CreateTempSubdirectory("nibble-finetune").FullName;
        private int _count;

        public (FineTuneReport Report, string Folder) Run(string device, string method, int steps, DType activations, int seed, bool interrupt = false, string model = Gpt)
        {
            string folder = Path.Combine(_root, $"{_count++}");
            FineTuneOptions options = new()
            {
                Model = AssetFolder.Find(model),
                Data = AssetFolder.Find("assets/text/tune-train.txt"),
                EvalData = steps == Steps && device == "cuda" && seed < 10 ? AssetFolder.Find("assets/text/tune-valid.txt") : null,
                Method = method,
                Device = device,
                Activations = activations,
                Output = folder,
                Lora = new LoraSettings { Dropout = 0.1 },
                Trainer = new TrainerSettings { BatchSize = 4, MaxSeqLength = 128, MaxSteps = steps, LearningRate = 1e-4, Seed = seed },
            };
            using CancellationTokenSource stop = new();
            FineTuneReport report = FineTune.Run(options, step => Stop(step, interrupt, stop), cancellation: stop.Token);
            return interrupt ? (FineTune.Run(options with { Resume = true }), folder) : (report, folder);
        }

        public void Dispose() => Directory.Delete(_root, recursive: true);

        private static void Stop(StepReport step, bool interrupt, CancellationTokenSource stop)
        {
            if (interrupt && step.Step == ShortSteps / 2)
            {
                stop.Cancel();
            }
        }
    }
}
