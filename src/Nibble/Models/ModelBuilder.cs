using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>
/// Takes tensors from a source onto a backend while an architecture builds its model, owns the small ones, and counts bytes.
/// </summary>
public sealed class ModelBuilder(IWeightSource weights, IBackend backend, IReadOnlyList<LinearSpec> linears) : IDisposable
{
    private readonly Dictionary<string, LinearSpec> _specs = linears.ToDictionary(spec => spec.Path);
    private readonly List<(string Name, IDisposable Item)> _owned = [];

    /// <summary>The backend that tensors go to.</summary>
    public IBackend Backend => backend;

    /// <summary>Checks the source against the architecture, then builds; all missing tensors and wrong shapes are reported at once.</summary>
    public static CausalModel Build(ModelConfig config, IWeightSource weights, IBackend backend)
    {
        IArchitecture architecture = Registry.Architecture(config);
        Check(architecture, config, weights);
        return architecture.Build(config, weights, backend);
    }

    /// <summary>Refuses a source that lacks tensors or has some of other shapes, listing all of them.</summary>
    public static void Check(IArchitecture architecture, ModelConfig config, IWeightSource weights)
    {
        IEnumerable<string?> linears = architecture.Linears(config).Select(weights.Problem);
        IEnumerable<string?> vectors = architecture.Vectors(config).Select(spec => weights.ShapeOf(spec.Name) switch
        {
            null => $"{spec.Name}: missing, expected {spec.Shape}",
            { } shape when shape != spec.Shape => $"{spec.Name}: expected {spec.Shape}, found {shape}",
            _ => null,
        });
        string[] problems = [.. linears.Concat(vectors).OfType<string>()];
        if (problems.Length > 0)
        {
            Throw.BadInput(
                $"{weights.Source}: {problems.Length:N0} tensors do not fit the config ({config.ModelType}): {string.Join("; ", problems)}",
                "config.json and the weights describe different models, or the download is incomplete",
                "download the model again, or use the config that belongs to these weights");
        }
    }

    /// <summary>Parameters of the model that a config describes, tied ones once.</summary>
    public static long CountParameters(IArchitecture architecture, ModelConfig config) =>
        architecture.Linears(config).Sum(spec => (long)spec.Out * spec.In) + architecture.Vectors(config).Sum(spec => (long)spec.Shape.Count);

    /// <summary>A small tensor as F32 on the backend; the builder owns it.</summary>
    public Tensor Vector(string name)
    {
        using Tensor stored = weights.Tensor(name);
        using Tensor floats = stored.To(DType.F32);
        Tensor tensor = floats.Upload(backend);
        _owned.Add((name, tensor));
        return tensor;
    }

    /// <summary>A LayerNorm with weight and bias.</summary>
    public LayerNorm LayerNorm(string path, float epsilon) => new(Vector(path + ".weight"), Vector(path + ".bias"), epsilon);

    /// <summary>An RMSNorm with its weight.</summary>
    public RmsNorm RmsNorm(string path, float epsilon) => new(Vector(path + ".weight"), epsilon);

    /// <summary>
    /// What each linear layer of bitllama2.c does to its input of width n: x / (rms(x) · n). Inputs that several layers share are
    /// normalized once. The epsilon only keeps zeros zero: hidden states of these models are as small as 1e-5.
    /// </summary>
    public RmsNorm InputNorm(int width)
    {
        const float epsilon = 1e-30f;
        using Tensor ones = Tensor.OnHost(new Shape(width), DType.F32);
        ones.HostSpan<float>().Fill(1f / width);
        Tensor weight = ones.Upload(backend);
        _owned.Add((string.Empty, weight));
        return new RmsNorm(weight, epsilon);
    }

    /// <summary>Rotary tables; the builder owns them.</summary>
    public RopeTable Rope(RopeSettings settings, int dim)
    {
        RopeTable table = new(settings, dim, backend);
        _owned.Add((string.Empty, table));
        return table;
    }

    /// <summary>A table of rows to gather from that is no linear layer (learned positions); the builder owns it.</summary>
    public IPackedWeight Table(string name)
    {
        using Tensor stored = weights.Tensor(name);
        IPackedWeight table = backend.Prepare(stored);
        _owned.Add((name, table));
        return table;
    }

    /// <summary>A linear layer with its bias.</summary>
    public ILinear Linear(string path)
    {
        LinearSpec spec = _specs[path];
        StaticActivations? scales = weights.Activations(spec);
        if (scales is not null && backend is not CpuBackend)
        {
            Throw.Usage("rounded activations run on the processor only", "this backend has no kernel for them", "use --device cpu, or quantize without --activation-bits");
        }

        Tensor? bias = spec.HasBias ? Vector(spec.BiasName) : null;
        ILinear linear = new PackedLinear(path, weights.Linear(spec, backend), bias);
        if (scales is not null)
        {
            linear = new RoundedLinear(linear, scales);
        }

        if (weights.Repair(spec, backend) is { } repair)
        {
            _owned.Add((path, repair));
            linear = new RepairedLinear(linear, repair);
        }

        _owned.Add((path, linear));
        return linear;
    }

    /// <summary>The parts of a model, with everything that the builder owns handed over to it.</summary>
    internal ModelParts Parts(
        ModelFacts facts, IPackedWeight embedding, IReadOnlyList<Block> blocks, INorm finalNorm, ILinear head, long parameterCount)
    {
        (string, IDisposable)[] owned = [.. _owned.Where(part => part.Item is not ILinear)];
        _owned.Clear();
        return new ModelParts(facts, backend, embedding, blocks, finalNorm, head, owned, parameterCount);
    }

    /// <summary>Frees what was not handed over, when building failed.</summary>
    public void Dispose()
    {
        foreach ((_, IDisposable item) in _owned)
        {
            item.Dispose();
        }
    }
}
