using Nibble.Backends;

namespace Nibble.Tensors;

/// <summary>A number that the optimizer moves: its values and its gradient, both in the order in which the backend keeps them.</summary>
/// <param name="Name">The name under which it is saved.</param>
/// <param name="Shape">The logical shape; <see cref="Values"/> may have another order, and padding, which has gradient 0.</param>
/// <param name="Values">F32 on the backend.</param>
/// <param name="Gradient">F32 on the backend, same number of elements.</param>
/// <param name="Weight">The packing that holds the values, or null for a vector.</param>
public sealed record Parameter(string Name, Shape Shape, Tensor Values, Tensor Gradient, IPackedWeight? Weight)
{
    /// <summary>Factor on the learning rate.</summary>
    public double RateFactor { get; init; } = 1;

    /// <summary>
    /// A matrix of a block: how many matrices of equal height stand above each other in it (GPT-2's queries, keys and values are three). 0 for
    /// vectors, embeddings, heads and adapters.
    /// </summary>
    public int Matrices { get; init; }

    /// <summary>Called after the values have changed: brings them to the weight that the model computes with, if that is another one.</summary>
    public Action? Publish { get; init; }
}

/// <summary>
/// Records what a forward pass does to memory and plays it backward. Ops write into destinations that are used again and again, so
/// a gradient belongs to a <b>place</b> (storage, offset, length) and to what that place holds at the time: an op that overwrites a place takes
/// its gradient away, an op that reads it adds to it. Values that the backward pass needs are remembered where they stand and
/// copied only when something is about to overwrite them.
/// </summary>
public sealed class Tape : IDisposable
{
    private readonly IBackend _backend;
    private readonly Workspace _workspace;
    private readonly List<Action> _nodes = [];
    private readonly List<Saved> _saved = [];
    private readonly HashSet<Place> _active = [];
    private readonly Dictionary<Place, Tensor> _gradients = [];
    private readonly Dictionary<Place, Action<Tensor>> _recipes = [];
    private readonly Dictionary<Place, GeluInput> _gelus = [];
    private readonly HashSet<Place> _unread = [];
    private (Tensor Buffer, int Slot)? _leaving, _coming;
    private int _segments;
    private readonly BufferPool _pool;
    private readonly GradientCopies<Place> _copies;

    /// <summary>A tape over passes whose intermediates come from <paramref name="workspace"/>.</summary>
    public Tape(IBackend backend, Workspace workspace)
    {
        _backend = backend;
        _workspace = workspace;
        _pool = new BufferPool(backend);
        _copies = new GradientCopies<Place>(_pool);
    }

    /// <summary>False while a checkpointed segment runs forward for the first time: nothing is recorded then.</summary>
    public bool IsRecording { get; private set; } = true;

    /// <summary>Where the inputs of the first <see cref="OffloadedSegments"/> checkpointed segments wait for the way back; null for the card.</summary>
    internal Backends.Cuda.CudaOffload? Offload { get; set; }

    /// <summary>See <see cref="Offload"/>.</summary>
    internal int OffloadedSegments { get; set; }

    /// <summary>True while a checkpointed segment runs for the second time: what it adds to its state at its end is known and read by nobody.</summary>
    internal bool IsRerunning { get; private set; }

    /// <summary>Until the second run of a segment ends, ops that write there need not compute: they only record.</summary>
    internal void Unread(Tensor tensor) => _unread.Add(Place.Of(tensor));

    /// <summary>See <see cref="Unread"/>.</summary>
    internal bool IsUnread(Tensor tensor) => _unread.Count > 0 && _unread.Contains(Place.Of(tensor));

    /// <summary>Bytes that gradients and copies have taken at most.</summary>
    public long PeakBytes => _pool.PeakBytes;

    /// <summary>True if the place holds something that depends on a parameter.</summary>
    public bool IsActive(Tensor tensor) => _active.Contains(Place.Of(tensor));

    /// <summary>Starts a pass: intermediates stay where they are until <see cref="End"/>.</summary>
    public void Begin() => _workspace.Retain = true;

    /// <summary>Remembers a value until its node has run backward.</summary>
    internal Saved Save(Tensor tensor)
    {
        Saved? known = _saved.Find(saved => saved.IsInPlace && Place.Of(saved.Value) == Place.Of(tensor) && saved.Value.Shape == tensor.Shape);
        if (known is not null)
        {
            known.Uses++;
            return known;
        }

        Saved saved = new(tensor);
        _saved.Add(saved);
        return saved;
    }

    /// <summary>Must be called before an op writes to a tensor.</summary>
    internal void Overwrite(Tensor tensor)
    {
        if (IsUnread(tensor))
        {
            return;
        }

        Place place = Place.Of(tensor);
        foreach (Saved saved in _saved)
        {
            if (!saved.IsInPlace || !Place.Of(saved.Value).Overlaps(place))
            {
                continue;
            }

            if (_recipes.TryGetValue(Place.Of(saved.Value), out Action<Tensor>? recipe))
            {
                (Shape shape, DType dtype) = (saved.Value.Shape, saved.Value.DType);
                saved.Defer(() =>
                {
                    Tensor again = _pool.Rent(shape, zeroed: false, dtype);
                    recipe(again);
                    return again;
                });
            }
            else
            {
                saved.Replace(_pool.Copy(saved.Value));
            }
        }

        _copies.Forget(place);
        _active.RemoveWhere(other => other != place && other.Overlaps(place));
        foreach (Place other in _recipes.Keys)
        {
            if (other.Overlaps(place))
            {
                _recipes.Remove(other);
            }
        }

        foreach ((Place other, GeluInput gelu) in _gelus)
        {
            if (other.Overlaps(place) || Place.Of(gelu.Input).Overlaps(place))
            {
                _gelus.Remove(other);
            }
        }
    }

    /// <summary>
    /// Tells how to compute what an op has just written from what its node has saved: it then need not be kept when it is overwritten. Nodes
    /// that come later in the pass, and so run earlier on the way back, may need it.
    /// </summary>
    internal void Derive(Tensor tensor, Action<Tensor> recipe) => _recipes[Place.Of(tensor)] = recipe;

    /// <summary>Notes that a GELU was written beside its input: see <see cref="GeluOf"/>.</summary>
    internal void NoteGelu(Tensor output, GeluInput gelu)
    {
        if (!Place.Of(output).Overlaps(Place.Of(gelu.Input)))
        {
            _gelus[Place.Of(output)] = gelu;
        }
    }

    /// <summary>
    /// If a place holds a GELU, what that was taken of: the gradient of whoever reads it may go to the input at once, multiplied by the slope
    /// there. Both places hold what they did when the GELU was made.
    /// </summary>
    internal GeluInput? GeluOf(Tensor tensor) => _gelus.TryGetValue(Place.Of(tensor), out GeluInput gelu) ? gelu : null;

    /// <summary>What an op wrote does not depend on any parameter.</summary>
    internal void Passive(Tensor tensor) => _active.Remove(Place.Of(tensor));

    /// <summary>
    /// Records an op that wrote to <paramref name="output"/>. <paramref name="backward"/> gets the gradient of it; if the op
    /// <paramref name="added"/> to what stood there, the gradient stays for whatever wrote that.
    /// </summary>
    internal void Record(Tensor output, Action<Tensor> backward, bool added = false, params Saved[] saved)
    {
        _active.Add(Place.Of(output));
        _nodes.Add(() =>
        {
            Tensor? gradient = added ? Peek(output) : Take(output);
            if (gradient is not null)
            {
                backward(gradient);
                if (!added)
                {
                    _copies.Drop(Place.Of(output));
                    _pool.Return(gradient);
                }
            }

            Forget(saved);
        });
    }

    /// <summary>Records an op in place: <paramref name="backward"/> turns the gradient of the result into that of <paramref name="input"/>, in place.</summary>
    internal void RecordInPlace(Tensor input, Tensor output, Action<Tensor> backward, params Saved[] saved)
    {
        _active.Add(Place.Of(output));
        _nodes.Add(() =>
        {
            if (Take(output) is { } gradient)
            {
                _copies.Drop(Place.Of(output));
                backward(gradient);
                Give(input, gradient);
            }

            Forget(saved);
        });
    }

    /// <summary>
    /// Runs a segment without recording it and runs it again, recorded, when the backward pass comes to it. Its result is
    /// <paramref name="state"/>, in place, and it must give the same numbers both times. What it starts from is kept,
    /// and rounded before, as <paramref name="kept"/>.
    /// </summary>
    internal void Checkpoint(Tensor state, Action forward, DType kept = DType.F32)
    {
        bool active = IsActive(state);
        Leave();
        int slot = _segments++;
        Tensor before = _pool.Rent(state.Shape, zeroed: false, kept);
        _backend.Gradients.Copy(state, before);
        if (kept != state.DType)
        {
            // Both runs start at the same numbers.
            _backend.Gradients.Copy(before, state);
        }

        if (Offload is not null && slot < OffloadedSegments)
        {
            Offload.Out(slot, before);
            _leaving = (before, slot);
        }

        _workspace.Retain = false;
        IsRecording = false;
        forward();
        IsRecording = true;
        _workspace.Retain = true;
        _active.Add(Place.Of(state));
        _nodes.Add(() => Rerun(state, Offload is not null && slot < OffloadedSegments ? Arrive(slot, state.Shape, kept) : before, active, forward, slot, kept));
    }

    // What leaves the card has a place on it until the copy is done.
    private void Leave()
    {
        if (_leaving is { } leaving)
        {
            Offload!.Wait();
            _pool.Return(leaving.Buffer);
            _leaving = null;
        }
    }

    // What was asked for in advance, or asks for it now.
    private Tensor Arrive(int slot, Shape shape, DType kept)
    {
        Leave();
        if (_coming?.Slot != slot)
        {
            Ask(slot, shape, kept);
        }

        Tensor buffer = _coming!.Value.Buffer;
        _coming = null;
        Offload!.Wait();
        return buffer;
    }

    private void Ask(int slot, Shape shape, DType kept)
    {
        Tensor buffer = _pool.Rent(shape, zeroed: false, kept);
        Offload!.In(slot, buffer);
        _coming = (buffer, slot);
    }

    /// <summary>The gradient of what the place holds now, zero if nothing has arrived yet; ops add to it.</summary>
    internal Tensor Gradient(Tensor tensor)
    {
        Place place = Place.Of(tensor);
        _copies.Drop(place);
        if (!_gradients.TryGetValue(place, out Tensor? gradient))
        {
            RequireWhole(place);
            gradient = _pool.Rent(tensor.Shape, zeroed: true, tensor.DType);
            _gradients.Add(place, gradient);
        }

        return gradient.Shape == tensor.Shape ? gradient : gradient.Reshape(tensor.Shape);
    }

    /// <summary>Adds a gradient, which the tape then owns.</summary>
    internal void Give(Tensor tensor, Tensor gradient)
    {
        Place place = Place.Of(tensor);
        _copies.Drop(place);
        if (_gradients.TryGetValue(place, out Tensor? sum))
        {
            _backend.Kernels.Add(gradient, sum);
            _pool.Return(gradient);
            return;
        }

        RequireWhole(place);
        _gradients.Add(place, gradient);
    }

    /// <summary>Adds a gradient, or drops it if the place did not depend on a parameter when it was read.</summary>
    internal void Give(Tensor tensor, Tensor gradient, bool active)
    {
        if (active)
        {
            Give(tensor, gradient);
        }
        else
        {
            _pool.Return(gradient);
        }
    }

    /// <summary>Where an op adds the gradient of an input: the gradient of the place, or a buffer that is dropped if nothing below needs it.</summary>
    internal Sink Open(Tensor tensor, bool active) =>
        active ? new Sink(Gradient(tensor), null) : new Sink(_pool.Rent(tensor.Shape, zeroed: true, tensor.DType), _pool);

    /// <summary>The same for an op that can write; <paramref name="fresh"/> tells that there is nothing to add to.</summary>
    internal Sink OpenWritten(Tensor tensor, bool active, out bool fresh)
    {
        if (!active)
        {
            fresh = true;
            return new Sink(_pool.Rent(tensor.Shape, zeroed: false, tensor.DType), _pool);
        }

        fresh = OpenFresh(tensor, out Tensor gradient);
        return new Sink(gradient, null);
    }

    /// <summary>Says that an op which added to a place wants the gradient there in other numbers, and perhaps the sum of its rows.</summary>
    internal void WishCopy(Tensor tensor, DType dtype, bool sums) => _copies.Wish(Place.Of(tensor), dtype, sums);

    /// <summary>What is wished of the gradient of a place; only the first op that reads the place is told.</summary>
    internal (DType DType, bool Sums)? TakeWish(Tensor tensor) => _copies.TakeWish(Place.Of(tensor));

    /// <summary>Keeps such a copy of the gradient of a place, until that changes.</summary>
    internal void KeepCopy(Tensor tensor, GradientCopy copy) => _copies.Add(Place.Of(tensor), copy);

    /// <summary>The copy, or null; the caller gives it back with <see cref="Return(GradientCopy)"/>, or keeps the rounded gradient as one of its own.</summary>
    internal GradientCopy? TakeCopy(Tensor tensor) => _copies.Take(Place.Of(tensor));

    /// <summary>Gives a copy back.</summary>
    internal void Return(GradientCopy copy) => _copies.Return(copy);

    /// <summary>A buffer for a gradient; its content is undefined.</summary>
    internal Tensor Rent(Shape shape, DType dtype = DType.F32) => _pool.Rent(shape, zeroed: false, dtype);

    /// <summary>Gives such a buffer back.</summary>
    internal void Return(Tensor buffer) => _pool.Return(buffer);

    /// <summary>
    /// The gradient of what the place holds now, for an op that can write it instead of adding: true if nothing has arrived yet, and then
    /// its content is undefined.
    /// </summary>
    internal bool OpenFresh(Tensor tensor, out Tensor gradient)
    {
        if (_gradients.ContainsKey(Place.Of(tensor)))
        {
            gradient = Gradient(tensor);
            return false;
        }

        RequireWhole(Place.Of(tensor));
        gradient = _pool.Rent(tensor.Shape, zeroed: false, tensor.DType);
        _gradients.Add(Place.Of(tensor), gradient);
        return true;
    }

    /// <summary>The gradient of a place that stays where it is; null if none has arrived.</summary>
    internal Tensor? Peek(Tensor tensor) => _gradients.GetValueOrDefault(Place.Of(tensor)) is { } gradient
        ? gradient.Reshape(tensor.Shape)
        : null;

    /// <summary>Plays the tape backward, last node first, and forgets it.</summary>
    public void Backward()
    {
        while (_nodes.Count > 0)
        {
            Action node = _nodes[^1];
            _nodes.RemoveAt(_nodes.Count - 1);
            node();
        }
    }

    /// <summary>Ends a pass: everything recorded and all gradients of intermediates are dropped.</summary>
    public void End()
    {
        _nodes.Clear();
        _saved.ForEach(saved => saved.Uses = 1);
        _recipes.Clear();
        _gelus.Clear();
        _copies.Clear();
        _unread.Clear();
        IsRerunning = false;
        (_leaving, _coming, _segments) = (EndCopy(_leaving), EndCopy(_coming), 0);
        Forget([.. _saved]);
        foreach (Tensor gradient in _gradients.Values)
        {
            _pool.Return(gradient);
        }

        _gradients.Clear();
        _active.Clear();
        IsRecording = true;
        _workspace.Retain = false;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        End();
        _pool.Dispose();
    }

    private void Rerun(Tensor state, Tensor before, bool active, Action forward, int slot, DType kept)
    {
        if (Offload is not null && slot > 0 && slot <= OffloadedSegments)
        {
            // The input of the segment before is on its way while this one runs.
            Ask(slot - 1, state.Shape, kept);
        }

        Workspace.Scope scope = _workspace.Begin();
        _backend.Gradients.Copy(before, state);
        Derive(state, again => _backend.Gradients.Copy(before, again));
        if (!active)
        {
            Passive(state);
        }

        _nodes.Add(() =>
        {
            _pool.Return(before);
            _workspace.Retain = false;
            scope.Dispose();
            _workspace.Retain = true;
        });
        IsRerunning = true;
        forward();
        IsRerunning = false;
        _unread.Clear();
    }

    private (Tensor Buffer, int Slot)? EndCopy((Tensor Buffer, int Slot)? copy)
    {
        if (copy is { } open)
        {
            Offload!.Wait();
            _pool.Return(open.Buffer);
        }

        return null;
    }

    private Tensor? Take(Tensor tensor) => _gradients.Remove(Place.Of(tensor), out Tensor? gradient) ? gradient.Reshape(tensor.Shape) : null;

    private void Forget(Saved[] saved)
    {
        foreach (Saved item in saved)
        {
            if (--item.Uses > 0)
            {
                continue;
            }

            _saved.Remove(item);
            if (item.IsCopy)
            {
                _pool.Return(item.Value);
            }
        }
    }

    // Gradients are kept per place; one that covers only a part of another would be lost without a word.
    private void RequireWhole(Place place)
    {
        foreach (Place other in _gradients.Keys)
        {
            if (other.Overlaps(place))
            {
                throw new InvalidOperationException(
                    $"tape: a gradient of {place.Length} bytes at {place.Offset} overlaps another of {other.Length} bytes at {other.Offset}; train with at least 2 tokens a batch");
            }
        }
    }

    /// <summary>See <see cref="Open"/>.</summary>
    internal readonly ref struct Sink(Tensor gradient, BufferPool? dropped)
    {
        public Tensor Gradient { get; } = gradient;

        public void Dispose() => dropped?.Return(Gradient);
    }

    private readonly record struct Place(Storage Storage, nint Offset, nint Length)
    {
        public static Place Of(Tensor tensor) => new(tensor.Storage, tensor.ByteOffset, tensor.ByteLength);

        public bool Overlaps(Place other) =>
            ReferenceEquals(Storage, other.Storage) && Offset < other.Offset + other.Length && other.Offset < Offset + Length;
    }

    /// <summary>The input of a GELU: its place, its value, which the GELU's own node keeps, and the kind.</summary>
    internal readonly record struct GeluInput(Tensor Input, Saved Saved, GeluKind Kind);

    /// <summary>A value that the backward pass needs.</summary>
    internal sealed class Saved(Tensor value)
    {
        private Tensor _value = value;
        private Func<Tensor>? _again;

        public Tensor Value
        {
            get
            {
                if (_again is { } again)
                {
                    _again = null;
                    Replace(again());
                }

                return _value;
            }
        }

        /// <summary>Nodes that still need it.</summary>
        public int Uses { get; set; } = 1;

        /// <summary>True once the value stands in a buffer of its own.</summary>
        public bool IsCopy { get; private set; }

        /// <summary>True while the value stands where it was saved.</summary>
        public bool IsInPlace => !IsCopy && _again is null;

        public void Replace(Tensor copy) => (_value, IsCopy) = (copy, true);

        /// <summary>The value is computed again when it is asked for.</summary>
        public void Defer(Func<Tensor> again) => _again = again;
    }
}
