using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>The product of one row of int8 activations, as decoding needs it: limited by how fast weights come from memory.</summary>
internal unsafe struct RowInt8Job : ICpuJob
{
    // Weights of a part: some ten microseconds, and a stream long enough for the processor's prefetchers.
    private const nint WeightsPerPart = 128 << 10;

    // Groups whose scales become floats at a time: they stay in the first-level cache, and memory is never idle for long.
    private const int MostGroups = 16;

    // Two vectors of 16 floats.
    private const int MostLanes = 32;

    public PanelPacking Packing;
    public CpuMatMul Call;
    public Int8Activations X;
    public OutlierColumns Outliers;

    public readonly int Parts => Kernels.Parts.Count(Call.Count, PartWidth);

    private readonly int Lanes => Packing.Variant.PanelWidth;

    private readonly nint PartWidth => Lanes * nint.Max(1, WeightsPerPart / (Lanes * nint.Max(1, X.Columns)));

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Execute(int part)
    {
        int lanes = Lanes;
        float* result = stackalloc float[MostLanes], values = stackalloc float[2 * MostGroups * MostLanes];
        nint end = nint.Min(Call.Count, (part + 1) * PartWidth);
        for (nint feature = part * PartWidth; feature < end; feature += lanes)
        {
            new Span<float>(result, lanes).Clear();
            for (nint group = 0; group < X.Groups; group += MostGroups)
            {
                ByteRow row = Packing.Row((Call.First + feature) / lanes, group, nint.Min(MostGroups, X.Groups - group), values);
                row.X = X.Values + (group * X.GroupSize);
                row.Sums = X.Sums + group;
                row.Result = result;
                Packing.RunRow(row);
            }

            Finish(feature, result);
            if (Outliers.Count > 0)
            {
                Outliers.Add(Packing, Call, feature, 0, 1);
            }
        }
    }

    private readonly void Finish(nint feature, float* result)
    {
        float scale = X.Scales[0];
        float* y = Call.Output + feature, bias = Call.FirstBias;
        nint count = nint.Min(Lanes, Call.Count - feature);
        for (nint i = 0; i < count; i++)
        {
            y[i] = (result[i] * scale) + (bias == null ? 0 : bias[feature + i]);
        }
    }
}
