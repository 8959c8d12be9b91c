using System.Diagnostics;
using System.Reflection;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Benchmarks;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>
/// Where the time of a decoding step goes after 2,016 tokens, op by op, with the cache in each of its forms. Fails if an op other than
/// products and attention takes more than 5 %. --method takes another quantization than 4 bits.
/// </summary>
internal static class DecodeProfile
{
    private const string Shapes = "llama-1.1b";
    private const string Method = "rtn:bits=4";
    private const int Depth = 2016;
    private const int Steps = 8;
    private const double Most = 0.05;

    public static void Run(BenchOptions options, BenchReport report)
    {
        SpeedOptions speed = new()
        {
            Shapes = Shapes,
            Threads = [CpuThreads.Choose(options.Threads)],
            Load = new LoadOptions { Activations = ActivationChoice.Int8 },
        };
        using BenchedModel benched = BenchedModel.Load(speed, ModelSpeed.Request(options.Method ?? Method));
        using CpuBackend backend = options.CreateBackend();
        foreach (KvCacheType type in Enum.GetValues<KvCacheType>())
        {
            benched.Model.CacheType = type;
            using SpeedRun run = new(benched.Model, Depth + Steps);
            RunOne(run, backend, report, type.ToString());
        }
    }

    private static void RunOne(SpeedRun run, CpuBackend backend, BenchReport report, string cache)
    {
        // What stands in the cache does not matter for the time, as long as it is numbers: zeros are.
        run.Decode(backend, Depth, Steps);
        Dictionary<string, double> times = [];
        IKernels kernels = Timed<IKernels>.Around(backend.Kernels, times);
        using ReplacedKernels timed = new(backend, kernels);
        double total = run.Decode(timed, Depth, Steps);
        report.Add($"decode at 2,048 tokens, {cache} cache", [Steps / total], "tokens/s");
        foreach ((string op, double seconds) in times.OrderByDescending(item => item.Value))
        {
            report.Add($"  {op}", [seconds / Steps * 1e6], "µs", [seconds / total], "the step");
        }

        string[] large = [.. times.Where(item => item.Key is not ("MatMul" or "Attention") && item.Value > Most * total).Select(item => item.Key)];
        report.Check($"no op but products and attention above 5 %, {cache} cache", large.Length == 0 ? null : string.Join(", ", large));
    }
}

/// <summary>Passes calls on and adds up how long each method takes.</summary>
internal class Timed<T> : DispatchProxy
    where T : class
{
    private T? _inner;
    private Dictionary<string, double> _times = [];

    public static T Around(T inner, Dictionary<string, double> times)
    {
        T proxy = Create<T, Timed<T>>();
        Timed<T> timed = (Timed<T>)(object)proxy;
        (timed._inner, timed._times) = (inner, times);
        return proxy;
    }

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args)
    {
        long start = Stopwatch.GetTimestamp();
        object? result = targetMethod!.Invoke(_inner, args);
        _times[targetMethod.Name] = _times.GetValueOrDefault(targetMethod.Name) + Stopwatch.GetElapsedTime(start).TotalSeconds;
        return result;
    }
}

/// <summary>A backend with other kernels.</summary>
internal sealed class ReplacedKernels(IBackend inner, IKernels kernels) : IBackend
{
    public string Name => inner.Name;

    public string KernelVariant => inner.KernelVariant;

    public int Threads => inner.Threads;

    public IKernels Kernels => kernels;

    public IGradientKernels Gradients => inner.Gradients;

    public Tensor Allocate(Shape shape, DType dtype) => inner.Allocate(shape, dtype);

    public void CopyFromHost(ReadOnlySpan<byte> source, Tensor destination) => inner.CopyFromHost(source, destination);

    public void CopyToHost(Tensor source, Span<byte> destination) => inner.CopyToHost(source, destination);

    public void Synchronize() => inner.Synchronize();

    public IPackedWeight Prepare(Tensor weight) => inner.Prepare(weight);

    public IPackedWeight Prepare(QuantizedWeight weight, ActivationType activations) => inner.Prepare(weight, activations);

    public IPackedWeight PrepareInt8(AffineWeight weight, float threshold) => inner.PrepareInt8(weight, threshold);

    public void Dispose()
    {
    }
}
