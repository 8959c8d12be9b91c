using Nibble.IO;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>
/// Memory of a card, kept when it is freed: the driver's allocation waits for all queued work. Work is one queue, so a block may be used
/// again as soon as it was given back. A request takes the smallest kept block that is not much too large.
/// </summary>
internal sealed class CachingAllocator(ICudaDevice device, long limit = long.MaxValue) : IDisposable
{
    /// <summary>Environment variable: most bytes to take from a card.</summary>
    public const string LimitVariable = "NIBBLE_CUDA_MEMORY";

    private const nint SmallStep = 512;
    private const nint LargeStep = 2 << 20;
    private readonly Lock _lock = new();
    private readonly Dictionary<nint, Block> _used = [];
    private readonly SortedDictionary<nint, Stack<nint>> _kept = [];
    private readonly Dictionary<string, long> _consumers = [];
    private HashSet<nint>? _held;
    private KeyValuePair<string, long>[]? _atPeak;

    private readonly record struct Block(nint Bytes, string What);

    /// <summary>Bytes in use.</summary>
    public long UsedBytes { get; private set; }

    /// <summary>Most bytes ever in use at once.</summary>
    public long PeakBytes { get; private set; }

    /// <summary>Bytes taken from the card: in use or kept.</summary>
    public long ReservedBytes { get; private set; }

    /// <summary>Who had how much when most was in use, largest first; empty unless <see cref="ResetPeak"/> asked for it.</summary>
    public IReadOnlyList<KeyValuePair<string, long>> ConsumersAtPeak => [.. (_atPeak ?? []).Where(item => item.Value > 0).OrderByDescending(item => item.Value)];

    /// <summary>The limit that the environment states.</summary>
    public static long LimitFromEnvironment()
    {
        string? text = Environment.GetEnvironmentVariable(LimitVariable);
        if (string.IsNullOrEmpty(text))
        {
            return long.MaxValue;
        }

        if (!long.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out long bytes) || bytes < 1)
        {
            Throw.Usage($"{LimitVariable} is \"{text}\"", "it is the most bytes that Nibble may take from a card", "set it to a number of bytes, or unset it");
        }

        return bytes;
    }

    /// <summary>Takes at least <paramref name="bytes"/>; <paramref name="what"/> names the consumer in an error.</summary>
    /// <exception cref="NibbleException">The card, or the limit, has not enough.</exception>
    public nint Allocate(nint bytes, string what)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        lock (_lock)
        {
            nint size = Round(bytes);
            nint address = TakeKept(ref size);
            if (address == 0)
            {
                address = TakeNew(size, what);
            }

            _held?.Add(address);
            _used.Add(address, new Block(size, what));
            _consumers[what] = _consumers.GetValueOrDefault(what) + size;
            UsedBytes += size;
            NotePeak();
            return address;
        }
    }

    /// <summary>Keeps a block for later requests.</summary>
    public void Free(nint address)
    {
        lock (_lock)
        {
            if (!_used.Remove(address, out Block block))
            {
                throw new InvalidOperationException($"cuda memory: {address:x} was given back twice, or is not of this card");
            }

            UsedBytes -= block.Bytes;
            _consumers[block.What] -= block.Bytes;
            if (!_kept.TryGetValue(block.Bytes, out Stack<nint>? stack))
            {
                _kept.Add(block.Bytes, stack = new Stack<nint>());
            }

            stack.Push(address);
        }
    }

    /// <summary>From now on blocks that are taken are remembered, for work that is recorded.</summary>
    public void BeginHold()
    {
        lock (_lock)
        {
            _held = [];
        }
    }

    /// <summary>
    /// Takes back what was given back since <see cref="BeginHold"/>: recorded work uses it each time that it runs, so nothing else may
    /// have it until the caller frees the returned blocks.
    /// </summary>
    public nint[] EndHold()
    {
        lock (_lock)
        {
            HashSet<nint> held = _held ?? [];
            _held = null;
            List<nint> taken = [];
            foreach ((nint size, Stack<nint> stack) in _kept.ToArray())
            {
                nint[] own = [.. stack.Where(held.Contains)], rest = [.. stack.Where(address => !held.Contains(address)).Reverse()];
                _kept.Remove(size);
                if (rest.Length > 0)
                {
                    _kept.Add(size, new Stack<nint>(rest));
                }

                foreach (nint address in own)
                {
                    _used.Add(address, new Block(size, "recorded steps"));
                    _consumers["recorded steps"] = _consumers.GetValueOrDefault("recorded steps") + size;
                    UsedBytes += size;
                    taken.Add(address);
                }
            }

            NotePeak();
            return [.. taken];
        }
    }

    /// <summary>Forgets the largest use so far: the next figure is that of the work from now on.</summary>
    /// <param name="consumers">Remember who had how much then: a copy of the list whenever use grows.</param>
    public void ResetPeak(bool consumers = false)
    {
        PeakBytes = UsedBytes;
        _atPeak = consumers ? [.. _consumers] : null;
    }

    /// <summary>Gives kept blocks back to the card.</summary>
    public void Trim()
    {
        lock (_lock)
        {
            foreach ((nint size, Stack<nint> stack) in _kept)
            {
                foreach (nint address in stack)
                {
                    device.Free(address);
                    ReservedBytes -= size;
                }
            }

            _kept.Clear();
        }
    }

    public void Dispose()
    {
        Trim();
        foreach (nint address in _used.Keys)
        {
            device.Free(address);
        }

        _used.Clear();
    }

    private static nint Round(nint bytes)
    {
        nint step = bytes <= LargeStep / 2 ? SmallStep : LargeStep;
        return checked((nint.Max(bytes, 1) + step - 1) / step * step);
    }

    // A block of up to a quarter more will do: less would keep many sizes, more would waste them.
    private nint TakeKept(ref nint size)
    {
        foreach ((nint kept, Stack<nint> stack) in _kept)
        {
            if (kept > size + (size / 4))
            {
                return 0;
            }

            if (kept >= size)
            {
                size = kept;
                if (stack.Count == 1)
                {
                    _kept.Remove(kept);
                }

                return stack.Pop();
            }
        }

        return 0;
    }

    private void NotePeak()
    {
        if (UsedBytes > PeakBytes)
        {
            PeakBytes = UsedBytes;
            _atPeak = _atPeak is null ? null : [.. _consumers];
        }
    }

    private nint TakeNew(nint size, string what)
    {
        nint address = ReservedBytes + size <= limit ? device.TryAllocate(size) : 0;
        if (address == 0)
        {
            Trim();
            address = ReservedBytes + size <= limit ? device.TryAllocate(size) : 0;
        }

        if (address == 0)
        {
            Refuse(size, what);
        }

        ReservedBytes += size;
        return address;
    }

    private void Refuse(nint size, string what)
    {
        (long free, long total) = device.Memory();
        (string largest, long bytes) = _consumers.Count == 0 ? ("nothing", 0) : _consumers.MaxBy(item => item.Value) is var most ? (most.Key, most.Value) : default;
        string within = limit == long.MaxValue ? string.Empty : $"; {LimitVariable} allows {limit:N0}";
        Throw.Resource(
            $"out of memory on {device.Facts.Name}: {size:N0} bytes for {what}, {free:N0} of {total:N0} are free",
            $"Nibble uses {UsedBytes:N0} bytes, most of them ({bytes:N0}) for {largest}{within}",
            "use a smaller batch or context, a method with fewer bits, or --device cpu; nvidia-smi shows what other programs hold");
    }
}
