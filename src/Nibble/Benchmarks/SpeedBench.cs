using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Evaluation;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Benchmarks;

/// <summary>
/// Speed of a model: a prompt in one go and tokens one by one, per quantization and number of threads, beside what reading the same bytes
/// takes and beside a peer. Within a quantization everything takes turns, round by round.
/// </summary>
public static class SpeedBench
{
    // More than any cache: reading beyond it is as fast as this.
    private const double MostReadBytes = 256e6;
    private const double ReadSeconds = 0.1;

    /// <summary>Measures; one document for each quantization and number of threads.</summary>
    public static IReadOnlyList<ResultDocument> Run(SpeedOptions options, Action<string>? progress = null, CancellationToken cancellation = default)
    {
        options.RequireProcessor();
        options.Peer?.Require();
        return [.. options.Methods.SelectMany(request => RunMethod(options, request, progress ?? (_ => { }), cancellation))];
    }

    private static IReadOnlyList<ResultDocument> RunMethod(SpeedOptions options, PlanRequest? request, Action<string> progress, CancellationToken cancellation)
    {
        string name = request?.Settings.Method ?? PlanOverride.Dense;
        progress($"{name}: loading");
        GC.Collect();
        bool first = ReferenceEquals(request, options.Methods[0]);
        bool known = PeakMemory.TryForgetPeak() || first;
        using PeakMemory loading = new();
        using BenchedModel benched = BenchedModel.Load(options, request);
        options.Require(benched.Model.Facts.Context);
        using SpeedRun run = new(benched.Model, Math.Max(options.Prompt, options.Depth + options.Tokens));
        CpuBackend[] backends = [.. options.Threads.Select(threads => new CpuBackend(new CpuOptions(threads)))];
        run.Prefill(backends[0], options.Depth);
        long loaded = loading.Bytes();
        bool apart = PeakMemory.TryForgetPeak();
        using PeakMemory running = new();
        // The round that warms up is also the one whose memory counts: later ones have the buffer of the raw read beside them.
        foreach (CpuBackend backend in backends)
        {
            Once(run, backend, options, null, cancellation, new SpeedRounds());
        }

        long used = running.Bytes();
        double bytesPerToken = run.BytesPerToken(options.Depth + ((options.Tokens + 1) / 2.0));
        SpeedRounds[] rounds = Rounds(run, backends, options, bytesPerToken, text => progress($"{name}: {text}"), cancellation);
        ResultBuilder Common(int i)
        {
            ResultBuilder result = new();
            rounds[i].Report(result, options, bytesPerToken);
            result.Add("peak_memory_bytes", known ? Math.Max(loaded, used) : null);
            result.Add("run_peak_memory_bytes", apart ? used : null);
            result.Add("kv_cache_bytes", run.CacheBytes);
            return result;
        }

        return [.. backends.Select((backend, i) => Document(options, benched, backend, Common(i), running.Source))];
    }

    private static SpeedRounds[] Rounds(SpeedRun run, CpuBackend[] backends, SpeedOptions options, double bytesPerToken, Action<string> progress, CancellationToken cancellation)
    {
        using Tensor data = RawRead.Memory((nint)Math.Min(bytesPerToken, MostReadBytes));
        SpeedRounds[] rounds = [.. backends.Select(_ => new SpeedRounds())];
        for (int round = 0; round < options.Rounds; round++)
        {
            progress($"round {round + 1} of {options.Rounds}");
            for (int i = 0; i < backends.Length; i++)
            {
                Once(run, backends[i], options, data, cancellation, rounds[i]);
            }
        }

        return rounds;
    }

    private static void Once(SpeedRun run, CpuBackend backend, SpeedOptions options, Tensor? data, CancellationToken cancellation, SpeedRounds rounds)
    {
        cancellation.ThrowIfCancellationRequested();
        double? prefill = options.Prompt == 0 ? null : options.Prompt / run.Prefill(backend, options.Prompt);
        double? decode = options.Tokens == 0 ? null : options.Tokens / run.Decode(backend, options.Depth, options.Tokens);
        if (data is null)
        {
            return;
        }

        double? read = decode is null ? null : RawRead.BytesPerSecond(data, CpuThreads.Shared(backend.Threads), ReadSeconds);
        rounds.Add(
            prefill,
            decode,
            read,
            options.Peer?.Prefill(backend.Threads, options.Prompt, cancellation),
            options.Peer?.Decode(backend.Threads, options.Tokens, options.Depth, cancellation));
    }

    private static ResultDocument Document(SpeedOptions options, BenchedModel benched, CpuBackend backend, ResultBuilder result, string memorySource)
    {
        WeightSizes sizes = WeightSizes.Of(benched.Model);
        result.Add("weight_bytes", sizes.Bytes);
        result.Add("bits_per_parameter", sizes.BitsPerParameter);
        result.Add("bits_per_weight", sizes.BitsPerWeight);
        result.Add("load_seconds", benched.LoadTime.TotalSeconds);
        result.Add("prompt_tokens", options.Prompt);
        result.Add("decode_tokens", options.Tokens);
        result.Add("depth", options.Depth);
        result.Add("rounds", options.Rounds);
        return new ResultDocument
        {
            Model = options.Shapes ?? Hub.HubCache.Called(options.Model!),
            Adapter = options.Load.Adapter,
            Method = benched.Method.Name,
            Bits = benched.Method.Bits,
            Settings = benched.Method.Settings,
            Task = "speed",
            Tasks = ["speed"],
            Device = backend.Name,
            ComputeDtype = "f32",
            KvCache = benched.Model.CacheType.Name(),
            ActivationDtype = benched.Model.ActivationDtype,
            Kernels = backend.KernelVariant,
            Packings = sizes.Packings,
            Threads = backend.Threads,
            Metrics = result.Metrics,
            Intervals = result.Intervals,
            MemorySource = memorySource,
            Environment = EnvironmentFacts.Read(),
        };
    }
}
