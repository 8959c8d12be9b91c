using Nibble.IO;
using Nibble.Models;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Several adapters of any kind on one base, of which one request uses one, a weighted sum, or none. Switching exchanges
/// references to layers: nothing is read, computed or copied. The base's weights stand in memory once.
/// </summary>
/// <remarks>Not safe for use by several threads at once; dispose it before its model.</remarks>
public sealed class AdapterSet : IDisposable
{
    private readonly LoadedModel _model;
    private readonly Layers _base;
    private readonly Dictionary<string, (IAdapter Adapter, Layers Layers)> _adapters = [];

    /// <summary>Starts a set without adapters.</summary>
    /// <param name="model">The base, without an adapter of its own.</param>
    public AdapterSet(LoadedModel model)
    {
        _model = model;
        _base = Layers.Of(model.Model);
    }

    /// <summary>Names of the adapters.</summary>
    public IReadOnlyCollection<string> Names => _adapters.Keys;

    /// <summary>The adapter that is in use; null for the base alone or a mixture.</summary>
    public string? Current { get; private set; }

    /// <summary>Reads an adapter; it is used only after <see cref="Use"/>.</summary>
    /// <exception cref="NibbleException">The name is taken, or the adapter does not fit the base.</exception>
    public void Add(string name, string folder)
    {
        if (_adapters.ContainsKey(name))
        {
            Throw.Usage($"there is an adapter '{name}' already", "each needs a name of its own", "choose another name");
        }

        IAdapter adapter = Adapters.Load(folder, _model.Config, _model.Backend);
        try
        {
            _adapters.Add(name, (adapter, Attached(adapter.Attach)));
        }
        catch
        {
            adapter.Dispose();
            throw;
        }
    }

    /// <summary>From the next pass on the model runs with this adapter; null: with none.</summary>
    /// <exception cref="NibbleException">There is none of this name.</exception>
    public void Use(string? name)
    {
        if (name is not null && !_adapters.ContainsKey(name))
        {
            Throw.Usage($"there is no adapter '{name}'", _adapters.Count == 0 ? "none was added" : $"there are {string.Join(", ", _adapters.Keys)}", "add it first");
        }

        (name is null ? _base : _adapters[name].Layers).Install(_model.Model);
        Current = name;
    }

    /// <summary>From the next pass on the model runs with a weighted sum of LoRA adapters, as <see cref="MixedAdapter"/>.</summary>
    /// <exception cref="NibbleException">A name that is not there, or an adapter that is no plain LoRA.</exception>
    public void Mix(IReadOnlyList<(string Name, float Weight)> mixture)
    {
        foreach ((string name, _) in mixture)
        {
            Use(name);
            if (_adapters[name].Adapter is not LoraAdapter { Settings.UseDora: false, Head: null })
            {
                Use(null);
                Throw.Usage($"adapter {name} cannot be mixed with others", "only LoRA adapters without DoRA and without a head add something to their base that can be summed", "use it alone");
            }
        }

        Attached(model =>
        {
            foreach ((string name, float weight) in mixture)
            {
                ((LoraAdapter)_adapters[name].Adapter).AttachScaled(model, weight);
            }
        }).Install(_model.Model);
        Current = null;
    }

    /// <summary>Takes all adapters away and frees them; the model is the base again.</summary>
    public void Dispose()
    {
        _base.Install(_model.Model);
        foreach ((IAdapter adapter, Layers layers) in _adapters.Values)
        {
            layers.DisposeWrappers();
            adapter.Dispose();
        }

        _adapters.Clear();
    }

    /// <summary>The layers that the model has after <paramref name="attach"/>; the model itself is the base again.</summary>
    private Layers Attached(Action<CausalModel> attach)
    {
        CausalModel model = _model.Model;
        _base.Install(model, borrowed: true);
        try
        {
            attach(model);
            return Layers.Of(model);
        }
        finally
        {
            _base.Install(model);
            Current = null;
        }
    }

    /// <summary>What an adapter changes of a model.</summary>
    private sealed record Layers(ILinear[][] Blocks, ILinear Head, VirtualTokens? Virtual)
    {
        public static Layers Of(CausalModel model) => new([.. model.Blocks.Select(block => block.Linears.ToArray())], model.Head, model.Virtual);

        /// <summary>Puts these layers into the model; <paramref name="borrowed"/>: behind shims that do not own them.</summary>
        public void Install(CausalModel model, bool borrowed = false)
        {
            for (int i = 0; i < Blocks.Length; i++)
            {
                int place = 0;
                ILinear[] layers = Blocks[i];
                model.Blocks[i].Replace(_ => borrowed ? new BorrowedLinear(layers[place++]) : layers[place++]);
            }

            model.ReplaceHead(Head);
            model.Virtual = Virtual;
        }

        /// <summary>Frees what stands around the base's layers, not the base's layers themselves.</summary>
        public void DisposeWrappers()
        {
            foreach (ILinear layer in Blocks.SelectMany(block => block))
            {
                layer.Dispose();
            }
        }
    }

    /// <summary>A layer that is used by several adapters: none of them may dispose it.</summary>
    private sealed class BorrowedLinear(ILinear inner) : ILinear
    {
        public string Path => inner.Path;

        public Backends.IPackedWeight Weight => inner.Weight;

        public Tensor? Bias => inner.Bias;

        public void Forward(Tensor x, Tensor y, in Pass pass) => inner.Forward(x, y, pass);

        public void Dispose()
        {
        }
    }
}
