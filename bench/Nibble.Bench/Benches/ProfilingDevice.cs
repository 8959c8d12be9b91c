using System.Runtime.InteropServices;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;

namespace Nibble.Bench.Benches;

/// <summary>
/// A card that times everything that it is given, by its own clock and one after the other. What comes before the clock starts keeps the card busy
/// while the call is queued, so that it alone is timed.
/// </summary>
internal sealed unsafe class ProfilingDevice(CudaDevice inner) : ICudaDevice
{
    // Some 15 µs of work; it takes the cache of the card, too.
    private const nint BusyBytes = 32 << 20;

    private readonly Dictionary<string, (int Count, double Seconds)> _times = [];
    private nint _busy;

    /// <summary>False while calls go through as they are.</summary>
    public bool IsTiming { get; set; } = true;

    /// <summary>For <c>ncu --profile-from-start off</c>: the kernels from here on.</summary>
    [DllImport("libcuda.so.1", EntryPoint = "cuProfilerStart")]
    public static extern int StartCapture();

    /// <summary>To here.</summary>
    [DllImport("libcuda.so.1", EntryPoint = "cuProfilerStop")]
    public static extern int StopCapture();

    public CudaFacts Facts => inner.Facts;

    public bool HasGroupProducts => inner.HasGroupProducts;

    /// <summary>What took longest.</summary>
    public IEnumerable<(string Name, int Count, double Seconds)> Times => _times.OrderByDescending(item => item.Value.Seconds).Select(item => (item.Key, item.Value.Count, item.Value.Seconds));

    public void Reset() => _times.Clear();

    /// <summary>Seconds that a call which does nothing takes by the same clock: the median of some.</summary>
    public double Empty()
    {
        double[] seconds = [.. Enumerable.Range(0, 101).Select(_ => Time(() => { })).Order()];
        return seconds[seconds.Length / 2];
    }

    public nint TryAllocate(nint bytes) => inner.TryAllocate(bytes);

    public void Free(nint address) => inner.Free(address);

    public (long Free, long Total) Memory() => inner.Memory();

    public StageMap MapStages(nint matrix, nint rows, nint columns, int tileRows) => inner.MapStages(matrix, rows, columns, tileRows);

    public void Upload(void* source, nint destination, nint bytes) => inner.Upload(source, destination, bytes);

    public void Download(nint source, void* destination, nint bytes) => inner.Download(source, destination, bytes);

    public nint AllocatePinned(nint bytes) => inner.AllocatePinned(bytes);

    public void FreePinned(nint address) => inner.FreePinned(address);

    public void CopyIn(nint pinned, nint destination, nint bytes) => inner.CopyIn(pinned, destination, bytes);

    public void CopyOut(nint source, nint pinned, nint bytes) => inner.CopyOut(source, pinned, bytes);

    public void CopyOutBeside(nint source, nint pinned, nint bytes) => Add("copy to the host", () => inner.CopyOut(source, pinned, bytes));

    public void CopyInBeside(nint pinned, nint destination, nint bytes) => Add("copy from the host", () => inner.CopyIn(pinned, destination, bytes));

    public void Copy(nint source, nint destination, nint bytes) => Add("copy", () => inner.Copy(source, destination, bytes));

    public void Clear(nint destination, nint bytes) => Add("clear", () => inner.Clear(destination, bytes));

    public void Launch(KernelName kernel, LaunchShape shape, ReadOnlySpan<KernelArgument> arguments)
    {
        KernelArgument[] copy = arguments.ToArray();
        Add(kernel.Name, () => inner.Launch(kernel, shape, copy));
    }

    public bool Has(in GemmCall call) => inner.Has(call);

    public void Multiply(in GemmCall call)
    {
        GemmCall copy = call;
        Add($"product {call.M} × {call.N} × {call.K} {(call.TransposeA ? 't' : 'n')}{(call.TransposeB ? 't' : 'n')} {call.Result}{(call.Add ? " added" : "")}{(call.End == GemmEnd.Plain ? "" : $" {call.End}")}", () => inner.Multiply(copy));
    }

    public CudnnAttention? Attention => inner.Attention;

    public void Attend(in FlashShape shape, in AttentionAddresses addresses, bool backward, nint workspace)
    {
        (FlashShape s, AttentionAddresses a) = (shape, addresses);
        Add(backward ? "cudnn attention gradient" : "cudnn attention", () => inner.Attend(s, a, backward, workspace));
    }

    // A step that is recorded would hide its parts.
    public RecordedWork? Record(Action queue) => null;

    public void Synchronize() => inner.Synchronize();

    public void Dispose() => inner.Dispose();

    private double Time(Action work)
    {
        if (_busy == 0)
        {
            _busy = inner.TryAllocate(BusyBytes);
        }

        if (_busy != 0)
        {
            inner.Clear(_busy, BusyBytes);
        }

        return inner.Time(work);
    }

    private void Add(string name, Action work)
    {
        if (!IsTiming)
        {
            work();
            return;
        }

        double seconds = Time(work);
        (int count, double sum) = _times.GetValueOrDefault(name);
        _times[name] = (count + 1, sum + seconds);
    }
}
