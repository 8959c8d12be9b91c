namespace Nibble.Tensors;

/// <summary>What the op before may want of a gradient, written in the pass over it that has just ended: rounded, and the sum of its rows.</summary>
/// <param name="Rounded">The gradient in other numbers.</param>
/// <param name="Sums">F32 <c>[columns]</c>, or null.</param>
internal sealed record GradientCopy(Tensor Rounded, Tensor? Sums);

/// <summary>
/// Who wants such copies, and those that are there. A wish is a hint, given forward by an op that added to a place and taken by the first op that reads
/// it; a copy is dropped as soon as its gradient changes.
/// </summary>
internal sealed class GradientCopies<TPlace>(BufferPool pool)
    where TPlace : notnull
{
    private readonly Dictionary<TPlace, (DType DType, bool Sums)> _wishes = [];
    private readonly Dictionary<TPlace, GradientCopy> _copies = [];

    /// <summary>Notes a wish for the gradient of what a place holds now.</summary>
    public void Wish(TPlace place, DType dtype, bool sums) => _wishes[place] = (dtype, sums);

    /// <summary>The place holds something else now.</summary>
    public void Forget(TPlace place) => _wishes.Remove(place);

    /// <summary>The wish for a place, if nobody has taken it.</summary>
    public (DType DType, bool Sums)? TakeWish(TPlace place) => _wishes.Remove(place, out (DType, bool) wish) ? wish : null;

    /// <summary>Keeps a copy of the gradient of a place.</summary>
    public void Add(TPlace place, GradientCopy copy) => _copies.Add(place, copy);

    /// <summary>The copy of the gradient of a place, if it is up to date; the caller then owns it.</summary>
    public GradientCopy? Take(TPlace place) => _copies.Remove(place, out GradientCopy? copy) ? copy : null;

    /// <summary>The gradient of a place changes.</summary>
    public void Drop(TPlace place)
    {
        if (_copies.Count > 0 && _copies.Remove(place, out GradientCopy? copy))
        {
            Return(copy);
        }
    }

    /// <summary>Gives the buffers of a copy back.</summary>
    public void Return(GradientCopy copy)
    {
        pool.Return(copy.Rounded);
        if (copy.Sums is { } sums)
        {
            pool.Return(sums);
        }
    }

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        _wishes.Clear();
        foreach (GradientCopy copy in _copies.Values)
        {
            Return(copy);
        }

        _copies.Clear();
    }
}
