using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>Work over all tensors of an optimizer in one launch: a block takes a part of one tensor.</summary>
internal sealed class CudaManyTensors(CachingMemory memory)
{
    private const int MostTables = 4;
    private readonly List<PartTable> _tables = [];

    /// <summary>One step of AdamW.</summary>
    public void AdamW(ReadOnlySpan<AdamWArguments> all)
    {
        AdamWEntry[] entries = new AdamWEntry[all.Length];
        for (int i = 0; i < all.Length; i++)
        {
            entries[i] = new AdamWEntry(all[i]);
        }

        Run<AdamWEntry>("adamw_many", entries, Parts([.. entries.Select(entry => entry.Count)]), null);
    }

    /// <summary>All elements become 0.</summary>
    public void Clear(IReadOnlyList<Tensor> all)
    {
        ClearEntry[] entries = [.. all.Select(tensor => new ClearEntry(CudaStorage.AddressOf(tensor), tensor.Shape.Count))];
        Run<ClearEntry>("clear_many", entries, Parts([.. entries.Select(entry => entry.Count)]), null);
    }

    /// <summary>The sum of all squares, added up in the order of the tensors.</summary>
    public double SumOfSquares(IReadOnlyList<Tensor> all)
    {
        AdamWEntry[] entries = [.. all.Select(tensor => new AdamWEntry { Gradient = CudaStorage.AddressOf(tensor), Count = tensor.Shape.Count })];
        PartTable parts = Parts([.. entries.Select(entry => entry.Count)]);
        using CudaStorage sums = memory.Rent(Math.Max(1, parts.Count) * sizeof(double), "gradients");
        Run<AdamWEntry>("sum_of_squares_many", entries, parts, sums);
        return parts.Count == 0 ? 0 : memory.Download<double>(sums).Take((int)parts.Count).Sum();
    }

    // The card waits while the host makes such a table: the few that a training needs are kept.
    private PartTable Parts(long[] counts)
    {
        PartTable? known = _tables.Find(table => table.Counts.AsSpan().SequenceEqual(counts));
        if (known is not null)
        {
            return known;
        }

        List<PartEntry> parts = [];
        for (int tensor = 0; tensor < counts.Length; tensor++)
        {
            for (long begin = 0; begin < counts[tensor]; begin += PartEntry.Elements)
            {
                parts.Add(new PartEntry(begin, tensor));
            }
        }

        if (_tables.Count == MostTables)
        {
            _tables[0].Places?.Dispose();
            _tables.RemoveAt(0);
        }

        PartTable made = new(counts, parts.Count, parts.Count == 0 ? null : memory.Upload<PartEntry>(CollectionsMarshal.AsSpan(parts), "optimizer"));
        _tables.Add(made);
        return made;
    }

    private void Run<T>(string kernel, ReadOnlySpan<T> entries, PartTable parts, CudaStorage? result)
        where T : unmanaged
    {
        if (parts.Places is { } places)
        {
            using CudaStorage table = memory.Upload(entries, "optimizer");
            ReadOnlySpan<KernelArgument> arguments = result is null ? [table.Address, places.Address] : [table.Address, places.Address, result.Address];
            memory.Device.Launch(CudaKernelNames.Of(kernel), new LaunchShape(parts.Count, 256), arguments);
        }
    }

    private sealed record PartTable(long[] Counts, nint Count, CudaStorage? Places);

    // ClearEntry of training.cu.
    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct ClearEntry(nint Values, long Count);

    // AdamWEntry of optimizer.cu.
    [StructLayout(LayoutKind.Sequential)]
    private struct AdamWEntry
    {
        public nint Values, Gradient, First, Second;
        public long Count;
        public float Scale, Beta1, Beta2, Epsilon, Keep, Step, Root;
        public int Unused;

        public AdamWEntry(in AdamWArguments a)
        {
            (Values, Gradient, Count) = (CudaStorage.AddressOf(a.Values), CudaStorage.AddressOf(a.Gradient), a.Values.Shape.Count);
            (First, Second) = (CudaStorage.AddressOf(a.First), CudaStorage.AddressOf(a.Second));
            (Scale, Beta1, Beta2, Epsilon) = (a.GradientScale, a.Beta1, a.Beta2, a.Epsilon);
            Keep = (float)(1 - ((double)a.LearningRate * a.WeightDecay));
            Step = (float)(a.LearningRate / (1 - Math.Pow(a.Beta1, a.Step)));
            Root = (float)Math.Sqrt(1 - Math.Pow(a.Beta2, a.Step));
            Unused = 0;
        }
    }
}
