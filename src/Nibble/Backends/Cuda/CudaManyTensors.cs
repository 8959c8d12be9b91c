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

        Run("adamw_many", entries, null);
    }

    /// <summary>The sum of all squares, added up in the order of the tensors.</summary>
    public double SumOfSquares(IReadOnlyList<Tensor> all)
    {
        AdamWEntry[] entries = [.. all.Select(tensor => new AdamWEntry { Gradient = CudaStorage.AddressOf(tensor), Count = tensor.Shape.Count })];
        using CudaStorage sums = memory.Rent((nint)Math.Max(1, Parts(entries).Length) * sizeof(double), "gradients");
        return Run("sum_of_squares_many", entries, sums) == 0 ? 0 : memory.Download<double>(sums).Take(Parts(entries).Length).Sum();
    }

    private static PartEntry[] Parts(AdamWEntry[] entries) =>
        [.. entries.SelectMany((entry, i) => Enumerable.Range(0, (int)((entry.Count + PartEntry.Elements - 1) / PartEntry.Elements)).Select(part => new PartEntry(part * PartEntry.Elements, i)))];

    private int Run(string kernel, AdamWEntry[] entries, CudaStorage? result)
    {
        PartEntry[] parts = Parts(entries);
        if (parts.Length > 0)
        {
            using CudaStorage table = memory.Upload<AdamWEntry>(entries, "optimizer"), places = memory.Upload<PartEntry>(parts, "optimizer");
            ReadOnlySpan<KernelArgument> arguments = result is null ? [table.Address, places.Address] : [table.Address, places.Address, result.Address];
            memory.Device.Launch(CudaKernelNames.Of(kernel), new LaunchShape(parts.Length, 256), arguments);
        }

        return parts.Length;
    }

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
