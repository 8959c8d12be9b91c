using Nibble.Backends;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>A LoRA adapter of a model: the pairs A and B of all its layers. It owns them; the layers around the base only use them.</summary>
public sealed class LoraAdapter : IAdapter
{
    private const string Prefix = "base_model.model.";
    private readonly IBackend _backend;
    private readonly IReadOnlyList<LoraTarget> _targets;
    private readonly Dictionary<string, (IPackedWeight A, IPackedWeight B)> _pairs = [];

    private LoraAdapter(LoraSettings settings, IReadOnlyList<LoraTarget> targets, IBackend backend) =>
        (Settings, _targets, _backend) = (settings, targets, backend);

    /// <summary>What the adapter is.</summary>
    public LoraSettings Settings { get; }

    /// <summary>Bytes of A and B.</summary>
    public long ByteLength => _pairs.Values.Sum(pair => (long)pair.A.ByteLength + pair.B.ByteLength);

    /// <summary>A new adapter: A uniform in ±1/√in (Kaiming with a = √5, as PEFT), B zero, so that training starts at the base model.</summary>
    public static LoraAdapter Create(CausalModel model, IReadOnlyList<LinearSpec> linears, LoraSettings settings, ulong seed)
    {
        LoraAdapter adapter = new(settings, TargetModules.Find(linears, settings), model.Backend);
        foreach (LoraTarget target in adapter._targets)
        {
            using Tensor a = Tensor.OnHost(new Shape(target.Rank, target.Linear.In), DType.F32), b = Tensor.OnHost(new Shape(target.Linear.Out, target.Rank), DType.F32);
            ulong key = CounterRandom.Key(seed, CounterRandom.Key(target.Linear.Path));
            double bound = 1 / Math.Sqrt(target.Linear.In);
            Span<float> values = a.HostSpan<float>();
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = (float)(((2 * CounterRandom.Uniform(key, (ulong)i)) - 1) * bound);
            }

            adapter._pairs.Add(target.Linear.Path, (model.Backend.Prepare(a), model.Backend.Prepare(b)));
        }

        return adapter;
    }

    /// <summary>Reads an adapter in PEFT's form; every tensor that does not fit the base is reported at once.</summary>
    public static LoraAdapter Load(string folder, JsonConfig json, IReadOnlyList<LinearSpec> linears, IBackend backend)
    {
        LoraSettings settings = PeftConfig.ReadLora(json);
        LoraAdapter adapter = new(settings, TargetModules.Find(linears, settings), backend);
        using SafetensorsFile file = AdapterFile.Open(folder);
        AdapterFile.Check(file, adapter._targets.SelectMany(Tensors));
        foreach (LoraTarget target in adapter._targets)
        {
            using Tensor a = AdapterFile.Floats(file, NameA(target)), b = AdapterFile.Floats(file, NameB(target));
            adapter._pairs.Add(target.Linear.Path, (backend.Prepare(a), backend.Prepare(b)));
        }

        return adapter;
    }

    /// <inheritdoc/>
    public void Attach(CausalModel model)
    {
        foreach (Block block in model.Blocks)
        {
            block.Replace(Wrap);
        }
    }

    /// <inheritdoc/>
    public void AddTo(ParameterSet parameters)
    {
        foreach (LoraTarget target in _targets)
        {
            (IPackedWeight a, IPackedWeight b) = _pairs[target.Linear.Path];
            parameters.Add(NameA(target), a, _backend);
            parameters.Add(NameB(target), b, _backend);
        }
    }

    /// <inheritdoc/>
    public void Save(string folder)
    {
        List<(string Name, Tensor Tensor)> tensors = [];
        foreach (LoraTarget target in _targets)
        {
            (IPackedWeight a, IPackedWeight b) = _pairs[target.Linear.Path];
            tensors.Add((NameA(target), ParameterRows.Dense(_backend, a)));
            tensors.Add((NameB(target), ParameterRows.Dense(_backend, b)));
        }

        Safetensors.Save(Path.Combine(folder, PeftConfig.WeightsName), tensors);
        tensors.ForEach(item => item.Tensor.Dispose());
        PeftConfig.WriteLora(
            Path.Combine(folder, PeftConfig.FileName), Settings, _targets.Select(target => target.Linear.Path[(target.Linear.Path.LastIndexOf('.') + 1)..]),
            _targets.Any(target => target.Linear.StoredTransposed));
    }

    /// <inheritdoc/>
    public void AddDelta(LinearSpec linear, Tensor matrix)
    {
        if (_targets.FirstOrDefault(item => item.Linear.Path == linear.Path) is not { } target)
        {
            return;
        }

        (IPackedWeight a, IPackedWeight b) = _pairs[linear.Path];
        using Tensor left = ParameterRows.Dense(_backend, b), right = ParameterRows.Dense(_backend, a);
        float scale = Settings.Scale(target.Rank, target.Alpha);
        int rank = target.Rank, columns = (int)linear.In;
        double[] row = new double[columns];
        for (int i = 0; i < (int)linear.Out; i++)
        {
            Array.Clear(row);
            for (int r = 0; r < rank; r++)
            {
                double factor = left.HostSpan<float>()[(i * rank) + r];
                ReadOnlySpan<float> direction = right.HostSpan<float>().Slice(r * columns, columns);
                for (int k = 0; k < columns; k++)
                {
                    row[k] += factor * direction[k];
                }
            }

            Span<float> values = matrix.Slice(i, 1).HostSpan<float>();
            for (int k = 0; k < columns; k++)
            {
                values[k] = (float)(values[k] + (scale * row[k]));
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach ((IPackedWeight a, IPackedWeight b) in _pairs.Values)
        {
            a.Dispose();
            b.Dispose();
        }
    }

    private static string NameA(LoraTarget target) => $"{Prefix}{target.Linear.Path}.lora_A.weight";

    private static string NameB(LoraTarget target) => $"{Prefix}{target.Linear.Path}.lora_B.weight";

    private static IEnumerable<TensorSpec> Tensors(LoraTarget target) =>
        [new(NameA(target), new Shape(target.Rank, target.Linear.In)), new(NameB(target), new Shape(target.Linear.Out, target.Rank))];

    private ILinear Wrap(ILinear linear)
    {
        if (!_pairs.TryGetValue(linear.Path, out (IPackedWeight A, IPackedWeight B) pair))
        {
            return linear;
        }

        LoraTarget target = _targets.First(item => item.Linear.Path == linear.Path);
        return new LoraLinear(linear, pair.A, pair.B, Settings.Scale(target.Rank, target.Alpha), (float)Settings.Dropout);
    }
}
