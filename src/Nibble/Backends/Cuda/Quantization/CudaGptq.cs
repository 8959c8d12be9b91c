using Nibble.Backends.Cuda.Driver;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Gptq;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Quantization;

/// <summary>
/// <see cref="GptqSolver"/> on a card: panels of up to 128 columns in one launch, a warp a row; what a panel asks of the columns behind it is one
/// product of matrices in F32.
/// </summary>
internal static class CudaGptq
{
    // Rows of a block of the panel's kernel, and its part of the factor: constants of gptq.cu.
    private const int Panel = 128, RowsPerBlock = 16, GroupsPerBlock = 8, SharedBytes = Panel * Panel * sizeof(float);

    /// <summary>Queues the kernels of a matrix; codes and values end in the matrix' own memory, from which the result reads them.</summary>
    public static Func<QuantizedWeight> Queue(CachingMemory memory, CudaMatrix matrix, QuantizationSettings settings, GramStatistics statistics, CudaStorage values)
    {
        CudaGram gram = (CudaGram)statistics.Device!;
        WeightFacts facts = Registry.Method(settings.Method).FactsOf(settings, matrix.Rows, matrix.Columns);
        int n = (int)matrix.Columns, group = facts.GroupSize, perRow = (int)facts.GroupsPerRow;
        bool actOrder = settings.ActOrder!.Value;
        int[] order = ColumnOrder.Of(statistics, actOrder);
        CudaStorage factor = gram.Factor(statistics, order, actOrder, settings.Damping!.Value);
        CudaStorage visits = matrix.Put<int>(order), codes = actOrder ? matrix.Rent(matrix.Count) : matrix.Codes;
        CudaStorage scales = matrix.Floats(matrix.Rows * perRow), offsets = matrix.Floats(matrix.Rows * perRow);
        using CudaStorage squares = gram.Squares();
        Walk walk = new(matrix, settings, scales.Address, offsets.Address, group, perRow);
        nint groupOf = settings.StaticGroups!.Value ? walk.FindAll(values.Address, squares.Address, order) : 0;
        matrix.Launch("visit_columns", CudaGrid.Elements(matrix.Count), matrix.Dense.Address, visits.Address, squares.Address, values.Address, matrix.Count, (nint)n);
        walk.Run(memory, values.Address, factor.Address, codes.Address, groupOf);
        if (actOrder)
        {
            matrix.Launch("place_codes", CudaGrid.Elements(matrix.Count), codes.Address, visits.Address, matrix.Codes.Address, matrix.Count, (nint)n);
        }

        int[]? index = GptqMethod.Index(order, group, settings);
        nint map = index is null ? 0 : matrix.Put<int>(index).Address;
        CudaQuantizer.Values(matrix, scales, offsets, values, facts, matrix.Rows * perRow, map);
        return () => new AffineWeight(
            matrix.ReadCodes(), facts.Bits, group, matrix.Read(scales), matrix.Read(offsets), facts.ScaleDType, columnGroups: index, symmetric: facts.Symmetric);
    }

    private sealed class Walk(CudaMatrix matrix, QuantizationSettings settings, nint scales, nint offsets, int group, int perRow)
    {
        private readonly int _kind = (int)(settings.Symmetric == true ? CudaGridKind.Symmetric : CudaGridKind.Asymmetric);
        private readonly int _type = (int)CudaMatrix.NumberOf(settings.ScaleDType!.Value);
        private readonly int _mse = settings.Mse == true ? 1 : 0;

        /// <summary>All grids from the dense weights, for groups of columns that stand side by side; returns the group of each visit.</summary>
        public nint FindAll(nint room, nint squares, int[] order)
        {
            int[] inPlace = [.. Enumerable.Range(0, order.Length)];
            nint groups = matrix.Rows * perRow;
            matrix.Launch("visit_columns", CudaGrid.Elements(matrix.Count), matrix.Dense.Address, matrix.Put<int>(inPlace).Address, squares, room, matrix.Count, matrix.Columns);
            matrix.Launch(
                "group_grids", new LaunchShape((groups + GroupsPerBlock - 1) / GroupsPerBlock, 32 * GroupsPerBlock), room, scales, offsets, matrix.Columns, group, (nint)perRow, groups, _kind,
                settings.Bits!.Value, _type, _mse, matrix.Flags);
            return matrix.Put<int>(Array.ConvertAll(order, column => column / group)).Address;
        }

        public void Run(CachingMemory memory, nint weights, nint factor, nint codes, nint groupOf)
        {
            nint n = matrix.Columns, rows = matrix.Rows;
            int reach = groupOf == 0 ? group : 1;
            CudaStorage errors = matrix.Floats(rows * Panel);
            for (nint start = 0; start < n;)
            {
                nint end = nint.Min(n, GptqSolver.End((int)start, reach));
                matrix.Launch(
                    "gptq_panel", new LaunchShape((rows + RowsPerBlock - 1) / RowsPerBlock, 32 * RowsPerBlock, 1, SharedBytes), weights, factor, codes, errors.Address, scales, offsets, groupOf,
                    rows, n, start, (int)(end - start), group, (nint)perRow, _kind, settings.Bits!.Value, _type, _mse, matrix.Flags);
                if (end < n)
                {
                    // w[all rows, end …] += errors · U[start … end, end …]; the errors are negative already.
                    memory.Device.Multiply(new GemmCall(
                        factor + (((start * n) + end) * sizeof(float)), errors.Address, weights + (end * sizeof(float)), 0, n - end, rows, end - start, false, false, n, Panel, n, DType.F32, Add: true));
                }

                start = end;
            }
        }
    }
}
