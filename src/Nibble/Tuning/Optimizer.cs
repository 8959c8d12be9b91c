using Nibble.Backends;
using Nibble.Formats;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>One state of an optimizer for one parameter.</summary>
/// <param name="Name">What it is: <c>first</c>, <c>second</c> …</param>
/// <param name="DType">How it is kept.</param>
/// <param name="Count">Elements.</param>
/// <param name="InOrderOfValues">It stands element by element beside the parameter's values, in their order; otherwise in an order of its own.</param>
internal readonly record struct StateSpec(string Name, DType DType, nint Count, bool InOrderOfValues);

/// <summary>Turns gradients into steps of all parameters of a set, and keeps the states that this needs.</summary>
/// <param name="parameters">What is trained.</param>
/// <param name="backend">Where it lives.</param>
/// <param name="settings">Its settings.</param>
internal abstract class Optimizer(ParameterSet parameters, IBackend backend, OptimizerSettings settings) : IDisposable
{
    private StateStore? _store;

    /// <summary>Steps made.</summary>
    public int Steps { get; set; }

    /// <summary>Bytes of states in memory; those in a file are not counted.</summary>
    public long ByteLength => Store.ByteLength;

    protected IBackend Backend => backend;

    protected OptimizerSettings Settings => settings;

    private StateStore Store => _store ??= StateStore.Create(backend, [.. parameters.All.Select(parameter => States(parameter).ToArray())], settings.Paged);

    /// <summary>The optimizer of some settings.</summary>
    public static Optimizer Create(ParameterSet parameters, IBackend backend, OptimizerSettings settings) => settings.Kind switch
    {
        OptimizerKind.Sgd => new Sgd(parameters, backend, settings),
        OptimizerKind.AdamW8Bit => new AdamW8Bit(parameters, backend, settings),
        OptimizerKind.Muon => new Muon(parameters, backend, settings),
        _ => new AdamW(parameters, backend, settings),
    };

    /// <summary>√Σg² over all parameters.</summary>
    public double GradientNorm()
    {
        parameters.Settle(backend.Gradients);
        return Math.Sqrt(backend.Gradients.SumOfSquares([.. parameters.All.Select(parameter => parameter.Gradient)]));
    }

    /// <summary>One step; gradients are multiplied by <paramref name="gradientScale"/> first.</summary>
    public void Step(double learningRate, double gradientScale)
    {
        Steps++;
        parameters.Settle(backend.Gradients);
        if (!settings.Paged && UpdateAll(parameters.All, Store, learningRate, gradientScale))
        {
            foreach (Parameter parameter in parameters.All)
            {
                parameter.Publish?.Invoke();
            }

            return;
        }

        for (int i = 0; i < parameters.All.Count; i++)
        {
            Parameter parameter = parameters.All[i];
            Tensor[] states = Store.Take(i);
            Update(parameter, states, learningRate * parameter.RateFactor, gradientScale);
            parameter.Publish?.Invoke();
            Store.Return(i);
        }
    }

    /// <summary>Sets all gradients to zero.</summary>
    public void ClearGradients() => parameters.ClearGradients(backend.Gradients);

    /// <summary>What <see cref="Save"/> gives, known before.</summary>
    public IEnumerable<SafetensorsSpec> Specs() => parameters.All.SelectMany(parameter =>
        States(parameter).Select(state => new SafetensorsSpec($"{state.Name}.{parameter.Name}", state.DType, FileShape(parameter, state))));

    /// <summary>All states on the host, one at a time, in an order that is the same on every backend; the caller disposes them.</summary>
    public IEnumerable<(string Name, Tensor Values)> Save()
    {
        for (int i = 0; i < parameters.All.Count; i++)
        {
            Parameter parameter = parameters.All[i];
            StateSpec[] specs = [.. States(parameter)];
            Tensor[] states = Store.Take(i);
            for (int s = 0; s < specs.Length; s++)
            {
                yield return ($"{specs[s].Name}.{parameter.Name}", specs[s].InOrderOfValues ? ParameterRows.Read(backend, parameter, states[s]) : Download(states[s]));
            }
        }
    }

    /// <summary>The inverse of <see cref="Save"/>.</summary>
    public void Load(SafetensorsFile file)
    {
        AdapterFile.Check(file, parameters.All.SelectMany(parameter => States(parameter).Select(state => new TensorSpec($"{state.Name}.{parameter.Name}", FileShape(parameter, state)))));
        for (int i = 0; i < parameters.All.Count; i++)
        {
            Parameter parameter = parameters.All[i];
            StateSpec[] specs = [.. States(parameter)];
            Tensor[] states = Store.Take(i);
            for (int s = 0; s < specs.Length; s++)
            {
                using Tensor stored = file.Load($"{specs[s].Name}.{parameter.Name}");
                if (specs[s].InOrderOfValues)
                {
                    ParameterRows.Write(backend, parameter, stored, states[s]);
                }
                else
                {
                    backend.CopyFromHost(Bytes(stored), states[s]);
                }
            }

            Store.Return(i);
        }
    }

    public virtual void Dispose() => _store?.Dispose();

    /// <summary>The states of a parameter.</summary>
    protected abstract IEnumerable<StateSpec> States(Parameter parameter);

    /// <summary>One step of all parameters together, where an optimizer can do that; else false.</summary>
    protected virtual bool UpdateAll(IReadOnlyList<Parameter> all, StateStore store, double learningRate, double gradientScale) => false;

    /// <summary>One step of one parameter.</summary>
    protected abstract void Update(Parameter parameter, Tensor[] states, double learningRate, double gradientScale);

    private static unsafe Span<byte> Bytes(Tensor host) => new(host.HostPointer, checked((int)host.ByteLength));

    private static Shape FileShape(Parameter parameter, StateSpec state) => state.InOrderOfValues ? parameter.Shape : new Shape(state.Count);

    private Tensor Download(Tensor state)
    {
        Tensor host = Tensor.OnHost(state.Shape, state.DType);
        backend.CopyToHost(state, Bytes(host));
        return host;
    }
}
