using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.Kernels;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>The backward kernels of the CPU backend for one kind of vector: pointers out of tensors, parts onto threads.</summary>
internal sealed unsafe class CpuGradients<S, V>(CpuThreads threads, BFloat16Kernels? half) : IGradientKernels
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public Tensor? Values(IPackedWeight weight) => ((CpuPacking)weight).FloatValues;

    public void ToRows(IPackedWeight weight, Tensor values, Tensor rows)
    {
        PanelOrderJob job = new() { Panels = Floats(values), Rows = Floats(rows), Columns = weight.In, Width = Blocks<S, V>.Width };
        threads.Run(checked((int)weight.Out), job);
        Operands.Hold(weight, values, rows);
    }

    public void FromRows(IPackedWeight weight, Tensor rows, Tensor values)
    {
        PanelOrderJob job = new() { Panels = Floats(values), Rows = Floats(rows), Columns = weight.In, Width = Blocks<S, V>.Width, Back = true };
        threads.Run(checked((int)weight.Out), job);
        Operands.Hold(weight, rows, values);
    }

    public void MatMulInput(Tensor dy, IPackedWeight w, Tensor dx) => MatMulInput(dy, w, dx, overwrite: false);

    public void MatMulInputInto(Tensor dy, IPackedWeight w, Tensor dx) => MatMulInput(dy, w, dx, overwrite: true);

    public void MatMulWeight(Tensor dy, Tensor x, IPackedWeight w, Tensor dw) => MatMulWeight(dy, x, w, dw, overwrite: false);

    public void MatMulWeightInto(Tensor dy, Tensor x, IPackedWeight w, Tensor dw)
    {
        if (x.Shape.Rows == 0)
        {
            Fill(dw, 0);
        }
        else
        {
            MatMulWeight(dy, x, w, dw, overwrite: true);
        }
    }

    private void MatMulWeight(Tensor dy, Tensor x, IPackedWeight w, Tensor dw, bool overwrite)
    {
        int width = Blocks<S, V>.Width;
        if (half is not null && x.Shape.Rows >= BFloat16Kernels.FewestRows)
        {
            BFloat16Product<S, V, MatrixPairs<S, V>> product = new()
            {
                A = Floats(x), RowStride = 1, StepStride = w.In, Right = new(Floats(dy), w.Out, w.Out), Rows = w.In, Columns = Blocks<S, V>.Panels(w.Out) * width,
                Depth = x.Shape.Rows, C = new(Floats(dw), width, w.In * width), Add = !overwrite, Kernels = half,
            };
            product.Run(threads);
            Operands.Hold(dy, x, w, dw);
            return;
        }

        ProductJob<S, V, MatrixPanels<S, V>> job = new()
        {
            A = Floats(x), RowStride = 1, StepStride = w.In, Right = new(Floats(dy), w.Out, 1, w.Out),
            Rows = w.In, Columns = Blocks<S, V>.Panels(w.Out) * width, Depth = x.Shape.Rows, C = new(Floats(dw), width, w.In * width),
            Overwrite = overwrite,
        };
        job.Run(threads);
        Operands.Hold(dy, x, w, dw);
    }

    public void SumRows(Tensor dy, Tensor db)
    {
        SumRows(Floats(dy), dy.Shape.Columns, dy.Shape.Rows, db);
        Operands.Hold(dy);
    }

    public void Gather(Tensor dy, Tensor ids, IPackedWeight table, Tensor dTable)
    {
        GatherGradientJob job = new()
        {
            Dy = Floats(dy), DTable = Floats(dTable), Ids = (int*)ids.HostPointer, Rows = ids.Shape.Count, Columns = table.In,
            Width = Blocks<S, V>.Width,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(dy, ids, table, dTable);
    }

    public void LayerNorm(Tensor x, Tensor weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight, Tensor? dBias) =>
        RunNorm(x, weight, epsilon, centered: true, dy, dx, dWeight, dBias);

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight) =>
        RunNorm(x, weight, epsilon, centered: false, dy, dx, dWeight, null);

    public void Rope(Tensor d, Tensor positions, Tensor cos, Tensor sin)
    {
        RopeJob<S, V> job = new()
        {
            X = Floats(d), Positions = (int*)positions.HostPointer, Cos = Floats(cos), Sin = Floats(sin),
            Rows = d.Shape[0], Heads = d.Shape[1], Half = d.Shape[2] / 2, Backward = true,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(d, positions, cos, sin);
    }

    public void AppendToCache(Tensor dCache, int start, Tensor dx) => AppendToCache(dCache, start, dx, overwrite: false);

    public void AppendToCacheInto(Tensor dCache, int start, Tensor dx) => AppendToCache(dCache, start, dx, overwrite: true);

    public void CopyColumns(Tensor dy, nint first, Tensor dx) => CopyColumns(dy, first, dx, overwrite: false);

    public void CopyColumnsInto(Tensor dy, nint first, Tensor dx) => CopyColumns(dy, first, dx, overwrite: true);

    public void ScaleColumns(Tensor? x, Tensor factor, Tensor d, Tensor? dFactor)
    {
        ColumnScaleGradientJob<S, V> job = new()
        {
            X = Floats(x), Factor = Floats(factor), D = Floats(d), DFactor = Floats(dFactor), Rows = d.Shape.Rows, Columns = d.Shape.Columns,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(x, factor, d, dFactor);
    }

    public void Attention(in AttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
        AttentionGradientJob<S, V> job = new(forward, dOutput, dQuery, dKeys, dValues);
        threads.Run(job.Parts, job);
        Operands.Hold(forward.Query, forward.Keys, forward.Values, forward.Output, forward.FirstKey);
        Operands.Hold(dOutput, dQuery, dKeys, dValues);
    }

    public void AttentionInto(in AttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
        AttentionGradientJob<S, V> job = new(forward, dOutput, dQuery, dKeys, dValues) { Overwrite = true };
        threads.Run(job.Parts, job);
        Operands.Hold(forward.Query, forward.Keys, forward.Values, forward.Output, forward.FirstKey);
        Operands.Hold(dOutput, dQuery, dKeys, dValues);
    }

    public void Gelu(Tensor x, GeluKind kind, Tensor d)
    {
        if (kind == GeluKind.Exact)
        {
            RunElementwise<GeluExactGradient>(x, d);
        }
        else
        {
            RunElementwise<GeluTanhGradient>(x, d);
        }
    }

    public void SwiGlu(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp) => RunGate<SwiGluGradient>(gate, up, dy, dGate, dUp);

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp) =>
        RunGate<SquaredReluGradient>(gate, up, dy, dGate, dUp);

    public void CrossEntropy(Tensor logits, Tensor targets, float scale, Tensor losses)
    {
        CrossEntropyJob<S, V> job = new()
        {
            Logits = Floats(logits), Losses = Floats(losses), Targets = (int*)targets.HostPointer, Rows = logits.Shape.Rows,
            Columns = logits.Shape.Columns, Scale = scale,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(logits, targets, losses);
    }

    public void AdamW(in AdamWArguments arguments)
    {
        AdamWJob<S, V> job = new(arguments);
        threads.Run(job.Parts, job);
        Operands.Hold(arguments.Values, arguments.Gradient, arguments.First, arguments.Second);
    }

    public void AdamW8Bit(in AdamW8BitArguments arguments)
    {
        AdamW8BitJob<S, V> job = new(arguments);
        threads.Run(job.Parts, job);
        Operands.Hold(arguments.Values, arguments.Gradient, arguments.First, arguments.FirstScales, arguments.Second, arguments.SecondScales);
    }

    public void Round(IPackedWeight source, IPackedWeight target)
    {
        ((CpuPacking)target).Round(threads, ((CpuPacking)source).FloatPanels);
        Operands.Hold(source, target);
    }

    public void Copy(Tensor source, Tensor target)
    {
        CopyJob job = new() { Source = Floats(source), Target = Floats(target), Count = target.Shape.Count };
        threads.Run(job.Parts, job);
        Operands.Hold(source, target);
    }

    public void Fill(Tensor x, float value)
    {
        CopyJob job = new() { Target = Floats(x), Value = value, Count = x.Shape.Count };
        threads.Run(job.Parts, job);
        Operands.Hold(x);
    }

    public double SumOfSquares(Tensor x)
    {
        SumOfSquaresJob<S, V> job = new() { X = Floats(x), Count = x.Shape.Count };
        using CpuScratch.Lease lease = CpuScratch.Rent(job.Parts * sizeof(double));
        job.Sums = (double*)lease.Pointer;
        threads.Run(job.Parts, job);
        Operands.Hold(x);
        double sum = 0;
        for (int part = 0; part < job.Parts; part++)
        {
            sum += job.Sums[part];
        }

        return sum;
    }

    private static float* Floats(Tensor? tensor) => tensor is null ? null : (float*)tensor.HostPointer;

    private void MatMulInput(Tensor dy, IPackedWeight w, Tensor dx, bool overwrite)
    {
        if (half is not null && dy.Shape.Rows >= BFloat16Kernels.FewestRows)
        {
            BFloat16Product<S, V, WeightPairs<S, V>> product = new()
            {
                A = Floats(dy), RowStride = w.Out, StepStride = 1, Right = new((CpuPacking)w), Rows = dy.Shape.Rows, Columns = w.In, Depth = w.Out,
                C = new(Floats(dx), w.In, Blocks<S, V>.Width), Add = !overwrite, Kernels = half,
            };
            product.Run(threads);
            Operands.Hold(dy, w, dx);
            return;
        }

        ProductJob<S, V, WeightPanels<S, V>> job = new()
        {
            A = Floats(dy), RowStride = w.Out, StepStride = 1, Right = new((CpuPacking)w),
            Rows = dy.Shape.Rows, Columns = w.In, Depth = w.Out, C = new(Floats(dx), w.In, Blocks<S, V>.Width), Overwrite = overwrite,
        };
        job.Run(threads);
        Operands.Hold(dy, w, dx);
    }

    private void AppendToCache(Tensor dCache, int start, Tensor dx, bool overwrite)
    {
        CacheGradientJob<S, V> job = new()
        {
            Dx = Floats(dx), DCache = Floats(dCache), Start = start, Length = dx.Shape[0] / nint.Max(dCache.Shape[0], 1),
            Heads = dCache.Shape[1], Capacity = dCache.Shape[2], Dim = dCache.Shape[3], Overwrite = overwrite,
        };
        threads.Run(checked((int)dx.Shape[0]), job);
        Operands.Hold(dx, dCache);
    }

    private void CopyColumns(Tensor dy, nint first, Tensor dx, bool overwrite)
    {
        ColumnsGradientJob<S, V> job = new()
        {
            Dx = Floats(dx), Dy = Floats(dy), Rows = dy.Shape.Rows, First = first, Count = dy.Shape.Columns, Stride = dx.Shape.Columns,
            Overwrite = overwrite,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(dx, dy);
    }

    private void SumRows(float* rows, nint stride, nint count, Tensor sum)
    {
        SumRowsJob<S, V> job = new() { X = rows, Y = Floats(sum), Rows = count, Columns = sum.Shape.Count, RowStride = stride };
        threads.Run(job.Parts, job);
        Operands.Hold(sum);
    }

    private void RunNorm(Tensor x, Tensor? weight, float epsilon, bool centered, Tensor dy, Tensor dx, Tensor? dWeight, Tensor? dBias)
    {
        nint columns = x.Shape.Columns;
        NormGradientJob<S, V> job = new()
        {
            X = Floats(x), Weight = Floats(weight), Dy = Floats(dy), Dx = Floats(dx), Rows = x.Shape.Rows, Columns = columns,
            Epsilon = epsilon, Centered = centered,
        };
        bool sums = dWeight is not null || dBias is not null;
        nint floats = sums ? 2 * columns * job.Parts : 0;
        using CpuScratch.Lease lease = CpuScratch.Rent(floats * sizeof(float));
        job.Partial = sums ? (float*)lease.Pointer : null;
        new Span<float>(job.Partial, checked((int)floats)).Clear();
        threads.Run(job.Parts, job);
        Operands.Hold(x, weight, dy, dx);
        if (dWeight is not null)
        {
            SumRows(job.Partial, 2 * columns, job.Parts, dWeight);
        }

        if (dBias is not null)
        {
            SumRows(job.Partial + columns, 2 * columns, job.Parts, dBias);
        }
    }

    private void RunElementwise<F>(Tensor x, Tensor d)
        where F : struct, IElementwise
    {
        ElementwiseJob<S, V, F> job = new() { A = Floats(x), B = Floats(d), Y = Floats(d), Count = d.Shape.Count };
        threads.Run(job.Parts, job);
        Operands.Hold(x, d);
    }

    private void RunGate<F>(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp)
        where F : struct, IGateGradient
    {
        GateGradientJob<S, V, F> job = new()
        {
            Gate = Floats(gate), Up = Floats(up), Dy = Floats(dy), DGate = Floats(dGate), DUp = Floats(dUp), Count = dy.Shape.Count,
        };
        threads.Run(job.Parts, job);
        Operands.Hold(gate, up, dy, dGate, dUp);
    }
}
