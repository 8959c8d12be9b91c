using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>Work over all tensors of an optimizer in one launch: a block takes a part of one tensor.</summary>
internal sealed class CudaManyTensors(CachingMemory memory)
{
    /// <summary>One step of AdamW.</summary>
    public void AdamW(ReadOnlySpan<AdamWArguments> all)
    {
        AdamWEntry[] entries = new AdamWEntry[all.Length];
        for (int i = 0; i < all.Length; i++)
        {
            entries[i] = new AdamWEntry(all[i]);
        }

        Run("adamw_many", entries, Parts(entries.Select(entry => entry.Count)), null);
    }

    /// <summary>All elements become 0.</summary>
    public void Clear(IReadOnlyList<Tensor> all)
    {
        ClearEntry[] entries = [.. all.Select(tensor => new ClearEntry(CudaStorage.AddressOf(tensor), tensor.Shape.Count))];
        PartEntry[] parts = Parts(entries.Select(entry => entry.Count));
        if (parts.Length > 0)
        {
            using CudaStorage table = memory.Upload<ClearEntry>(entries, "optimizer"), places = memory.Upload<PartEntry>(parts, "optimizer");
            memory.Device.Launch(CudaKernelNames.Of("clear_many"), new LaunchShape(parts.Length, 256), [table.Address, places.Address]);
        }
    }

    /// <summary>The sum of all squares, added up in the order of the tensors.</summary>
    public double SumOfSquares(IReadOnlyList<Tensor> all)
    {
        AdamWEntry[] entries = [.. all.Select(tensor => new AdamWEntry { Gradient = CudaStorage.AddressOf(tensor), Count = tensor.Shape.Count })];
        PartEntry[] parts = Parts(entries.Select(entry => entry.Count));
        using CudaStorage sums = memory.Rent((nint)Math.Max(1, parts.Length) * sizeof(double), "gradients");
        Run("sum_of_squares_many", entries, parts, sums);
        return parts.Length == 0 ? 0 : memory.Download<double>(sums).Take(parts.Length).Sum();
    }

    private static PartEntry[] Parts(IEnumerable<long> counts)
    {
        List<PartEntry> parts = [];
        int tensor = 0;
        foreach (long count in counts)
        {
            for (long begin = 0; begin < count; begin += PartEntry.Elements)
            {
                parts.Add(new PartEntry(begin, tensor));
            }

            tensor++;
        }

        return [.. parts];
    }

    private void Run(string kernel, AdamWEntry[] entries, PartEntry[] parts, CudaStorage? result)
    {
        if (parts.Length > 0)
        {
            using CudaStorage table = memory.Upload<AdamWEntry>(entries, "optimizer"), places = memory.Upload<PartEntry>(parts, "optimizer");
            ReadOnlySpan<KernelArgument> arguments = result is null ? [table.Address, places.Address] : [table.Address, places.Address, result.Address];
            memory.Device.Launch(CudaKernelNames.Of(kernel), new LaunchShape(parts.Length, 256), arguments);
        }
    }

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
