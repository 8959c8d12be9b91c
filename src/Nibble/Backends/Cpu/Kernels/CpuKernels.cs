using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.Gradients;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>The kernels of the CPU backend for one kind of vector: pointers out of tensors, parts onto threads.</summary>
internal sealed unsafe class CpuKernels<S, V>(CpuThreads threads, BFloat16Kernels? half) : IKernels
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public void MatMul(Tensor x, IPackedWeight w, Tensor? bias, Tensor y)
    {
        ((CpuPacking)w).MatMul(
            new CpuMatMul(threads, (nint)Floats(x), y.Shape.Rows, (nint)Floats(bias), (nint)Floats(y), w.Out, First: 0, w.Out), half);
        Operands.Hold(x, w, bias, y);
    }

    public void Gather(IPackedWeight table, Tensor ids, Tensor y)
    {
        GatherJob job = new() { Table = (CpuPacking)table, Ids = (int*)ids.HostPointer, Y = Floats(y) };
        threads.Run(checked((int)ids.Shape.Count), job);
        Operands.Hold(table, ids, y);
    }

    public void GatherSome(IPackedWeight table, Tensor ids, Tensor y) => Gather(table, ids, y);

    public void LayerNorm(Tensor x, Tensor weight, Tensor? bias, float epsilon, Tensor y) => RunNorm(x, weight, bias, epsilon, centered: true, y);

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor y) => RunNorm(x, weight, null, epsilon, centered: false, y);

    public void Rope(Tensor x, Tensor positions, Tensor cos, Tensor sin)
    {
        RopeJob<S, V> job = new()
        {
            X = Floats(x), Positions = (int*)positions.HostPointer, Cos = Floats(cos), Sin = Floats(sin),
            Rows = x.Shape[0], Heads = x.Shape[1], Half = x.Shape[2] / 2,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(x, positions, cos, sin);
    }

    public void AppendToCache(Tensor x, Tensor cache, int start)
    {
        switch (cache.DType)
        {
            case DType.F16: AppendRows<HalfRows>(x, cache, start); break;
            case DType.BF16: AppendRows<BFloat16Rows>(x, cache, start); break;
            case DType.U8: AppendRows<ByteRows>(x, cache, start); break;
            default: AppendRows<FloatRows>(x, cache, start); break;
        }
    }

    public void Attention(in AttentionArguments arguments)
    {
        switch (arguments.Keys.DType)
        {
            case DType.F16: AttentionJob<S, V, HalfRows>.Run(arguments, threads); break;
            case DType.BF16: AttentionJob<S, V, BFloat16Rows>.Run(arguments, threads); break;
            case DType.U8: AttentionJob<S, V, ByteRows>.Run(arguments, threads); break;
            default: AttentionJob<S, V, FloatRows>.Run(arguments, threads); break;
        }

        Operands.Hold(arguments.Query, arguments.Keys, arguments.Values, arguments.Output, arguments.FirstKey);
    }

    public void Gelu(Tensor x, GeluKind kind, Tensor y)
    {
        if (kind == GeluKind.Exact)
        {
            RunElementwise<GeluExactFunction>(x, x, y);
        }
        else
        {
            RunElementwise<GeluTanhFunction>(x, x, y);
        }
    }

    public void SwiGlu(Tensor gate, Tensor up, Tensor y) => RunElementwise<SwiGluFunction>(gate, up, y);

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor y) => RunElementwise<SquaredReluGateFunction>(gate, up, y);

    public void Add(Tensor x, Tensor y) => RunElementwise<AddFunction>(x, y, y);

    public void CopyColumns(Tensor x, nint first, Tensor y)
    {
        CopyColumnsJob job = new()
        {
            X = Floats(x) + first, Y = Floats(y), Rows = x.Shape.Rows, Columns = y.Shape.Columns, Stride = x.Shape.Columns,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(x, y);
    }

    public void MatMulAdd(Tensor x, IPackedWeight w, Tensor y)
    {
        if (half is not null && x.Shape.Rows >= BFloat16Kernels.FewestRows)
        {
            BFloat16Product<S, V, TransposedPairs<S, V>> product = new()
            {
                A = Floats(x), RowStride = w.In, StepStride = 1, Right = new((CpuPacking)w, 0), Rows = x.Shape.Rows, Columns = w.Out, Depth = w.In,
                C = new(Floats(y), w.Out, Blocks<S, V>.Width), Add = true, Kernels = half,
            };
            product.Run(threads);
            Operands.Hold(x, w, y);
            return;
        }

        ProductJob<S, V, TransposedPanels<S, V>> job = new()
        {
            A = Floats(x), RowStride = w.In, StepStride = 1, Right = new((CpuPacking)w),
            Rows = x.Shape.Rows, Columns = w.Out, Depth = w.In, C = new(Floats(y), w.Out, Blocks<S, V>.Width),
        };
        job.Run(threads);
        Operands.Hold(x, w, y);
    }

    public void AddGram(Tensor x, double[] sum)
    {
        fixed (double* target = sum)
        {
            Gram<S, V>.Add(threads, Floats(x), x.Shape.Rows, x.Shape.Columns, target);
        }

        Operands.Hold(x);
    }

    public void Scale(Tensor x, float factor)
    {
        ScaleJob<S, V> job = new() { X = Floats(x), Count = x.Shape.Count, Factor = factor };
        threads.Run(job.Parts, job);
        Operands.Hold(x);
    }

    public void ScaleColumns(Tensor x, Tensor factor, Tensor? shift)
    {
        ScaleColumnsJob<S, V> job = new() { X = Floats(x), Factor = Floats(factor), Shift = Floats(shift), Rows = x.Shape.Rows, Columns = x.Shape.Columns };
        threads.Run(job.Parts, job);
        Operands.Hold(x, factor, shift);
    }

    public void Dropout(Tensor x, ulong key, float probability)
    {
        DropoutJob job = new(Floats(x), x.Shape.Count, key, probability);
        threads.Run(job.Parts, job);
        Operands.Hold(x);
    }

    public void RoundRows(Tensor x, float share)
    {
        RoundRowsJob job = new() { X = Floats(x), Rows = x.Shape.Rows, Columns = x.Shape.Columns, Share = share };
        threads.Run(job.Parts, job);
        Operands.Hold(x);
    }

    public void Softmax(Tensor x)
    {
        SoftmaxJob<S, V> job = new() { X = Floats(x), Rows = x.Shape.Rows, Columns = x.Shape.Columns };
        threads.Run(job.Parts, job);
        Operands.Hold(x);
    }

    public void LogLikelihood(
        Tensor hidden, IPackedWeight head, Tensor? bias, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace)
    {
        LogLikelihood<S, V>.Run(
            threads, half, Floats(hidden), hidden.Shape.Rows, (CpuPacking)head, Floats(bias), (int*)targets.HostPointer,
            Floats(logProbabilities), best is null ? null : (int*)best.HostPointer, workspace);
        Operands.Hold(hidden, head, bias, targets, logProbabilities, best);
    }

    private static float* Floats(Tensor? tensor) => tensor is null ? null : (float*)tensor.HostPointer;

    private void AppendRows<F>(Tensor x, Tensor cache, int start)
        where F : struct, IKvFormat
    {
        AppendJob<F> job = new()
        {
            X = Floats(x), Cache = cache.HostPointer, Start = start, Length = x.Shape[0] / nint.Max(cache.Shape[0], 1),
            Heads = cache.Shape[1], Capacity = cache.Shape[2], Dim = x.Shape[2],
        };
        threads.Run(checked((int)x.Shape[0]), job);
        Operands.Hold(x, cache);
    }

    private void RunNorm(Tensor x, Tensor? weight, Tensor? bias, float epsilon, bool centered, Tensor y)
    {
        NormJob<S, V> job = new()
        {
            X = Floats(x), Weight = Floats(weight), Bias = Floats(bias), Y = Floats(y),
            Rows = x.Shape.Rows, Columns = x.Shape.Columns, Epsilon = epsilon, Centered = centered,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(x, weight, bias, y);
    }

    private void RunElementwise<F>(Tensor a, Tensor b, Tensor y)
        where F : struct, IElementwise
    {
        ElementwiseJob<S, V, F> job = new() { A = Floats(a), B = Floats(b), Y = Floats(y), Count = y.Shape.Count };
        threads.Run(job.Parts, job);
        Operands.Hold(a, b, y);
    }

    private struct GatherJob : ICpuJob
    {
        public CpuPacking Table;
        public int* Ids;
        public float* Y;

        public readonly void Execute(int part)
        {
            if (Ids[part] >= 0)
            {
                Table.DecodeRow(Ids[part], 0, Table.In, Y + (part * Table.In));
            }
        }
    }

    private struct AppendJob<F> : ICpuJob
        where F : struct, IKvFormat
    {
        public float* X;
        public byte* Cache;
        public nint Start, Length, Heads, Capacity, Dim;

        public readonly void Execute(int part)
        {
            (nint batch, nint token) = (part / Length, part % Length);
            for (nint head = 0; head < Heads; head++)
            {
                float* source = X + (((part * Heads) + head) * Dim);
                F.Store<S, V>(source, Cache + ((((((batch * Heads) + head) * Capacity) + Start + token)) * F.RowBytes(Dim)), Dim);
            }
        }
    }
}
