using Nibble.Backends;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>The parameters of a training, in the order in which they were added; found by the weight or vector that a kernel is given.</summary>
public sealed class ParameterSet : IDisposable
{
    private readonly List<Parameter> _all = [];
    private readonly List<IPackedWeight> _masters = [];
    private readonly Dictionary<object, Parameter> _byHolder = new(ReferenceEqualityComparer.Instance);

    // Matrices whose gradient is zero whatever its memory holds: what comes first is written, not added.
    private readonly HashSet<Parameter> _cleared = new(ReferenceEqualityComparer.Instance);

    /// <summary>All parameters.</summary>
    public IReadOnlyList<Parameter> All => _all;

    /// <summary>Numbers that are trained, padding not counted.</summary>
    public long Count => _all.Sum(parameter => (long)parameter.Shape.Count);

    /// <summary>Adds a matrix: an F32 packing, whose numbers are trained where they stand.</summary>
    public void Add(string name, IPackedWeight weight, IBackend backend, double rateFactor = 1, int matrices = 0)
    {
        Tensor values = backend.Gradients.Values(weight)
            ?? throw new ArgumentException($"parameter '{name}': a {weight.Name} packing can't be trained, only f32");
        Add(new Parameter(name, new Shape(weight.Out, weight.In), values, backend.Allocate(values.Shape, DType.F32), weight) { RateFactor = rateFactor, Matrices = matrices }, weight);
    }

    /// <summary>
    /// Adds a matrix of which the model computes with something else than what is trained: an F32 copy is trained, and after every change
    /// of it <paramref name="publish"/> brings it to the matrix. The set owns the copy.
    /// </summary>
    /// <param name="name">Its name.</param>
    /// <param name="weight">The matrix of the model.</param>
    /// <param name="backend">Where it lives.</param>
    /// <param name="publish">Given the copy, what to call when it has changed; null rounds it into the matrix, which is then of 16 bits.</param>
    /// <param name="matrices">See <see cref="Parameter.Matrices"/>.</param>
    public void AddMastered(string name, IPackedWeight weight, IBackend backend, Func<IPackedWeight, Action>? publish = null, int matrices = 0)
    {
        using Tensor start = ParameterRows.Dense(backend, weight);
        IPackedWeight master = backend.Prepare(start);
        _masters.Add(master);
        Tensor values = backend.Gradients.Values(master)!;
        Add(
            new Parameter(name, new Shape(weight.Out, weight.In), values, backend.Allocate(values.Shape, DType.F32), master)
            {
                Matrices = matrices,
                Publish = publish?.Invoke(master) ?? (() => backend.Gradients.Round(master, weight)),
            },
            weight);
    }

    /// <summary>Adds a vector.</summary>
    public void Add(string name, Tensor vector, IBackend backend) =>
        Add(new Parameter(name, vector.Shape, vector, backend.Allocate(vector.Shape, DType.F32), null), vector);

    /// <summary>Bytes of gradients and of F32 copies.</summary>
    public long ByteLength => _all.Sum(parameter => (long)parameter.Gradient.ByteLength) + _masters.Sum(master => (long)master.ByteLength);

    /// <summary>Adds every parameter of a model, which must have been loaded for training: its matrices as F32 or BF16.</summary>
    /// <param name="model">The model.</param>
    /// <param name="publishOf">For matrices that are trained as copies: see <see cref="AddMastered"/>.</param>
    public void AddAll(CausalModel model, Func<IPackedWeight, Func<IPackedWeight, Action>?>? publishOf = null)
    {
        Dictionary<IPackedWeight, int> matrices = model.Blocks.SelectMany(block => block.Linears.Select((linear, i) => (linear.Weight, Count: block.MatricesOf(i))))
            .ToDictionary(item => item.Weight, item => item.Count);
        foreach ((string name, object holder) in model.Parameters)
        {
            if (holder is not IPackedWeight weight)
            {
                Add(name, (Tensor)holder, model.Backend);
                continue;
            }

            Func<IPackedWeight, Action>? publish = publishOf?.Invoke(weight);
            if (publish is null && model.Backend.Gradients.Values(weight) is not null)
            {
                Add(name, weight, model.Backend, matrices: matrices.GetValueOrDefault(weight));
            }
            else
            {
                AddMastered(name, weight, model.Backend, publish, matrices.GetValueOrDefault(weight));
            }
        }
    }

    /// <summary>The parameter that a weight or vector holds, or null.</summary>
    public Parameter? Find(object? holder) => holder is null ? null : _byHolder.GetValueOrDefault(holder);

    /// <summary>All gradients are zero from now on. Those of matrices keep what they hold until something is added to them, or <see cref="Settle"/>.</summary>
    internal void ClearGradients(IGradientKernels kernels)
    {
        kernels.Clear([.. _all.Where(parameter => parameter.Weight is null).Select(parameter => parameter.Gradient)]);
        _cleared.UnionWith(_all.Where(parameter => parameter.Weight is not null));
    }

    /// <summary>Adds dyᵀ·x to the gradient of a matrix.</summary>
    internal void AddProduct(Parameter parameter, Tensor dy, Tensor x, IGradientKernels kernels)
    {
        if (_cleared.Remove(parameter))
        {
            kernels.MatMulWeightInto(dy, x, parameter.Weight!, parameter.Gradient);
        }
        else
        {
            kernels.MatMulWeight(dy, x, parameter.Weight!, parameter.Gradient);
        }
    }

    /// <summary>The gradient of a parameter with all of its memory up to date, for ops that add to parts of it.</summary>
    internal Tensor Settled(Parameter parameter, IGradientKernels kernels)
    {
        if (_cleared.Remove(parameter))
        {
            kernels.Fill(parameter.Gradient, 0);
        }

        return parameter.Gradient;
    }

    /// <summary>Gradients that nothing was added to hold zeros from now on: called before all of them are read.</summary>
    internal void Settle(IGradientKernels kernels)
    {
        kernels.Clear([.. _all.Where(_cleared.Contains).Select(parameter => parameter.Gradient)]);
        _cleared.Clear();
    }

    /// <summary>Frees gradients and F32 copies; the values belong to the model or adapter.</summary>
    public void Dispose()
    {
        _all.ForEach(parameter => parameter.Gradient.Dispose());
        _masters.ForEach(master => master.Dispose());
    }

    private void Add(Parameter parameter, object holder)
    {
        _byHolder.Add(holder, parameter);
        _all.Add(parameter);
    }
}
