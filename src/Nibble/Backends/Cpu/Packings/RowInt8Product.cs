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

    // Groups of one call of machine code that reads scales as they are kept: some ten microseconds.
    private const int MostRawGroups = 64;

    // Two vectors of 16 floats.
    private const int MostLanes = 32;

    // Panels that a kernel takes at once.
    private const int MostPanels = 4;

    public PanelPacking Packing;
    public CpuMatMul Call;
    public Int8Activations X;
    public OutlierColumns Outliers;

    public readonly int Parts => Kernels.Parts.Count(Call.Count, PartWidth);

    private readonly int Lanes => Packing.Variant.PanelWidth;

    private readonly nint PartWidth
    {
        get
        {
            int atOnce = Packing.RowPanels;
            nint panels = nint.Max(atOnce, WeightsPerPart / (Lanes * nint.Max(1, X.Columns)));
            return Lanes * (panels / atOnce * atOnce);
        }
    }

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Execute(int part)
    {
        int lanes = Lanes, atOnce = Packing.RowPanels;
        float* result = stackalloc float[MostPanels * MostLanes], values = stackalloc float[2 * MostPanels * MostGroups * MostLanes];
        nint end = nint.Min(Call.Count, (part + 1) * PartWidth);
        for (nint feature = part * PartWidth; feature < end;)
        {
            int panels = end - feature > (atOnce - 1) * lanes ? atOnce : 1;
            new Span<float>(result, panels * lanes).Clear();
            nint groups = panels > 1 && Packing.HasRawValues ? MostRawGroups : MostGroups;
            for (nint group = 0; group < X.Groups; group += groups)
            {
                Add(feature, panels, group, nint.Min(groups, X.Groups - group), result, values);
            }

            for (int panel = 0; panel < panels; panel++, feature += lanes)
            {
                Finish(feature, result + (panel * lanes));
                if (Outliers.Count > 0)
                {
                    Outliers.Add(Packing, Call, feature, 0, 1);
                }
            }
        }
    }

    /// <summary>result += a run of groups of some panels.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Add(nint feature, int panels, nint group, nint groups, float* result, float* values)
    {
        int lanes = Lanes;
        ByteRow* rows = stackalloc ByteRow[MostPanels];
        for (int panel = 0; panel < panels; panel++)
        {
            ref ByteRow row = ref rows[panel];
            nint index = ((Call.First + feature) / lanes) + panel;
            float* place = values + (2 * panel * MostGroups * lanes);
            row = panels == 1 ? Packing.Row(index, group, groups, place) : Packing.RawRow(index, group, groups, place);
            row.X = X.Values + (group * X.GroupSize);
            row.Sums = X.Sums + group;
            row.Result = result + (panel * lanes);
        }

        if (panels == 1)
        {
            Packing.RunRow(rows[0]);
        }
        else
        {
            Packing.RunRows(rows);
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
