using System.Diagnostics;
using Nibble.Backends.Cpu;
using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Benchmarks;

/// <summary>A model under measurement: loaded from a path, or random weights of some shapes.</summary>
internal sealed class BenchedModel : IDisposable
{
    private readonly IDisposable[] _owned;

    private BenchedModel(CausalModel model, MeasuredMethod method, TimeSpan loadTime, params IDisposable[] owned) =>
        (Model, Method, LoadTime, _owned) = (model, method, loadTime, owned);

    public CausalModel Model { get; }

    public MeasuredMethod Method { get; }

    public TimeSpan LoadTime { get; }

    public static BenchedModel Load(SpeedOptions options, PlanRequest? request)
    {
        LoadOptions load = options.Load with { Quantization = request, Threads = options.Threads.Max() };
        return options.Model is { } path ? FromPath(path, load) : FromShapes(options.Shapes!, load);
    }

    public void Dispose()
    {
        foreach (IDisposable item in _owned)
        {
            item.Dispose();
        }
    }

    private static BenchedModel FromPath(string path, LoadOptions load)
    {
        long start = Stopwatch.GetTimestamp();
        LoadedModel loaded = LoadedModel.Load(path, load);
        return new BenchedModel(loaded.Model, MeasuredMethod.Of(loaded, load), Stopwatch.GetElapsedTime(start), loaded);
    }

    private static BenchedModel FromShapes(string shapes, LoadOptions load)
    {
        long start = Stopwatch.GetTimestamp();
        ModelConfig config = ModelShapes.Config(shapes);
        CpuBackend backend = new(new CpuOptions(load.Threads));
        DType dtype = load.Dtype ?? DType.BF16;
        using RandomWeights weights = new(config, Registry.Architecture(config), dtype) { Quantize = Quantizer(config, load, dtype) };
        CausalModel model = ModelBuilder.Build(config, weights, backend);
        model.CacheType = load.KvCache;
        MeasuredMethod method = load.Quantization is { } request ? MeasuredMethod.Of(request, config.StoredDType) : new MeasuredMethod(PlanOverride.Dense, 8 * dtype.Size(), new Dictionary<string, object>());
        return new BenchedModel(model, method, Stopwatch.GetElapsedTime(start), model, backend);
    }

    private static Func<LinearSpec, Tensor, Backends.IBackend, Backends.IPackedWeight>? Quantizer(ModelConfig config, LoadOptions load, DType dtype)
    {
        if (load.Quantization is not { } request)
        {
            return null;
        }

        QuantPlan plan = QuantPlan.Create(config, request);
        plan.RequireDataFree();
        Dictionary<string, QuantizationSettings> planned = plan.Quantized.ToDictionary(tensor => tensor.Spec.Path, tensor => tensor.Settings!);
        return (spec, floats, backend) =>
        {
            if (!planned.TryGetValue(spec.Path, out QuantizationSettings? settings))
            {
                using Tensor matrix = floats.To(dtype);
                return backend.Prepare(matrix);
            }

            using QuantizedWeight weight = Registry.Method(settings.Method).Quantize(spec.WeightName, floats, settings);
            return WeightPacking.Pack(weight, spec, backend, load.Activations);
        };
    }
}
