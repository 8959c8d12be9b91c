using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Packings;
using Nibble.Ops;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda;

/// <summary>The backward kernels on a card, and the optimizer's. Sums have an order that depends on shapes alone.</summary>
internal sealed unsafe class CudaGradients(CachingMemory memory, CudaProducts products, CudaHalfProducts half, DType compute) : IGradientKernels
{
    private const nint RowsPerChunk = 64, LongRow = 16384;
    private const nint SquaresPerBlock = 4096;
    private readonly CudaManyTensors _many = new(memory);
    private readonly CudaMuon _muon = new(memory, compute);
    private readonly CudaNorms _norms = new(memory);
    private CudaStorage? _maps;

    public Tensor? Values(IPackedWeight weight) => (weight as DenseCudaPacking)?.Values;

    // A card keeps dense matrices in row order.
    public void ToRows(IPackedWeight weight, Tensor values, Tensor rows) => Copy(values, rows);

    public void FromRows(IPackedWeight weight, Tensor rows, Tensor values) => Copy(rows, values);

    public void MatMulInput(Tensor dy, IPackedWeight w, Tensor dx)
    {
        if (CudaHalfProducts.Takes(dy, dx))
        {
            half.MultiplyBack(dy, (CudaPacking)w, dx, add: true);
        }
        else
        {
            products.MultiplyBack(At(dy), dy.Shape.Rows, (CudaPacking)w, At(dx));
        }
    }

    public void MatMulInputInto(Tensor dy, IPackedWeight w, Tensor dx)
    {
        if (CudaHalfProducts.Takes(dy, dx) && w.Out > 0)
        {
            half.MultiplyBack(dy, (CudaPacking)w, dx, add: false);
        }
        else
        {
            Fill(dx, 0);
            MatMulInput(dy, w, dx);
        }
    }

    public bool HasMatMulInputGelu(Tensor dy, IPackedWeight w, Tensor x, GeluKind kind) => kind == GeluKind.Tanh && half.HasMultiplyBackGelu(dy, (CudaPacking)w, x);

    public void MatMulInputGelu(Tensor dy, IPackedWeight w, Tensor x, GeluKind kind, Tensor dx) => half.MultiplyBackGelu(dy, (CudaPacking)w, x, dx);

    public void MatMulWeight(Tensor dy, Tensor x, IPackedWeight w, Tensor dw) => MatMulWeight(dy, x, w, dw, add: true);

    public void MatMulWeightInto(Tensor dy, Tensor x, IPackedWeight w, Tensor dw)
    {
        if (x.Shape.Count == 0)
        {
            Fill(dw, 0);
        }
        else
        {
            MatMulWeight(dy, x, w, dw, add: false);
        }
    }

    public void SumRows(Tensor dy, Tensor db)
    {
        if (dy.DType == DType.BF16 && CudaNorms.Fits(dy))
        {
            _norms.SumRows(dy, db);
        }
        else
        {
            SumRows(dy, null, db);
        }
    }

    public void ScaleColumns(Tensor? x, Tensor factor, Tensor d, Tensor? dFactor)
    {
        if (dFactor is not null)
        {
            SumRows(d, x, dFactor);
        }

        Elements("scale_columns", d, [d, factor, (nint)0, d.Shape.Columns, d.Shape.Count]);
    }

    public void Gather(Tensor dy, Tensor ids, IPackedWeight table, Tensor dTable)
    {
        if (dy.Shape.Count > 0)
        {
            memory.Device.Launch(CudaKernelNames.Of("gather_gradient"), new LaunchShape(ids.Shape.Count, 256), [dy, ids, dTable, ids.Shape.Count, table.In]);
        }
    }

    public void LayerNorm(Tensor x, Tensor weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight, Tensor? dBias) =>
        Norm(x, weight, epsilon, centered: 1, dy, dx, dWeight, dBias);

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight) =>
        Norm(x, weight, epsilon, centered: 0, dy, dx, dWeight, null);

    public bool KeepsNormInput(Tensor x, Tensor y) => CudaNorms.Keeps(x, y);

    public void NormKept(in KeptNorm norm) => _norms.Forward(norm);

    public void NormKeptGradient(in KeptNorm norm, in KeptNormGradient gradient) => _norms.Backward(norm, gradient);

    public void Rope(Tensor d, Tensor positions, Tensor cos, Tensor sin) => CudaKernels.Rope(memory.Device, d, positions, cos, sin, -1);

    public void AppendToCache(Tensor dCache, int start, Tensor dx) =>
        CudaKernels.Append(memory.Device, "append_to_cache_gradient", dx, dCache, start);

    public void CopyColumns(Tensor dy, nint first, Tensor dx) =>
        Elements(CudaKernels.Variant("copy_columns_gradient", dy), dy, [dy, dx, dy.Shape.Count, first, dy.Shape.Columns, dx.Shape.Columns]);

    public void Attention(in AttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
        if (forward.Query.DType == DType.BF16)
        {
            CudaFlash.Backward(memory, forward, dOutput, dQuery, dKeys, dValues, add: true);
            return;
        }

        AttentionShape shape = new(forward);
        int group = shape.Heads / shape.KvHeads, dims = shape.Dims(), parts = forward.Batch * shape.KvHeads;
        if (shape.Length == 0 || parts == 0)
        {
            return;
        }

        const int Rows = AttentionShape.TileRows, Keys = AttentionShape.TileKeys, Threads = AttentionShape.Threads;
        int bytes = 2 * ((Rows * shape.Dim) + (Keys * (shape.Dim + 1))) * sizeof(float);
        using CudaStorage statistics = memory.Rent(3 * forward.Query.Shape[0] * shape.Heads * sizeof(float), "gradients");
        KernelArgument s = KernelArgument.Structure(&shape);
        memory.Device.Launch(
            CudaKernelNames.Attention("attention_gradient_query", dims),
            new LaunchShape((((long)shape.Length * group) + Rows - 1) / Rows, Threads, parts, bytes),
            [s, forward.Query, forward.Keys, forward.Values, dOutput, dQuery, statistics.Address, forward.FirstKey]);
        memory.Device.Launch(
            CudaKernelNames.Attention("attention_gradient_keys", dims),
            new LaunchShape((shape.Start + shape.Length + Rows - 1) / Rows, Threads, parts, bytes),
            [s, forward.Query, forward.Keys, forward.Values, dOutput, statistics.Address, dKeys, dValues, forward.FirstKey]);
    }

    public void AttentionInto(in AttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
        if (forward.Query.DType == DType.BF16 && forward.Keys.Shape[2] == forward.Start + forward.Length)
        {
            CudaFlash.Backward(memory, forward, dOutput, dQuery, dKeys, dValues, add: false);
            return;
        }

        Fill(dQuery, 0);
        Fill(dKeys, 0);
        Fill(dValues, 0);
        Attention(forward, dOutput, dQuery, dKeys, dValues);
    }

    public void AttendRows(in RowAttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues) =>
        CudaFlash.Backward(memory, forward, dOutput, dQuery, dKeys, dValues);

    public void Gelu(Tensor x, GeluKind kind, Tensor d) =>
        Elements(CudaKernels.Variant(kind == GeluKind.Exact ? "gelu_exact_gradient" : "gelu_tanh_gradient", d), d, [x, d, d.Shape.Count]);

    public void SwiGlu(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp) =>
        Elements(CudaKernels.Variant("swiglu_gradient", dy), dy, [gate, up, dy, dGate, dUp, dy.Shape.Count]);

    public void SquaredReluGate(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp) =>
        Elements(CudaKernels.Variant("squared_relu_gate_gradient", dy), dy, [gate, up, dy, dGate, dUp, dy.Shape.Count]);

    public void CrossEntropy(Tensor logits, Tensor targets, float scale, Tensor losses) => CrossEntropy(logits, logits.Shape.Columns, targets, scale, losses);

    public void CrossEntropy(Tensor logits, nint classes, Tensor targets, float scale, Tensor losses)
    {
        if (logits.Shape.Count > 0)
        {
            ReadOnlySpan<KernelArgument> arguments = logits.DType == DType.BF16
                ? [logits, targets, losses, classes, logits.Shape.Columns, scale]
                : [logits, targets, losses, classes, scale];
            LaunchShape shape = CudaGrid.Rows(logits.Shape.Rows, classes);
            // Long rows are read twice: few of them at a time, and the second time they come from the cache.
            memory.Device.Launch(
                CudaKernelNames.Of(CudaKernels.Variant("cross_entropy", logits)), logits.DType == DType.BF16 && classes >= LongRow ? shape with { Threads = 1024 } : shape, arguments);
        }
    }

    public void AdamW(in AdamWArguments a)
    {
        float keep = (float)(1 - ((double)a.LearningRate * a.WeightDecay));
        float step = (float)(a.LearningRate / (1 - Math.Pow(a.Beta1, a.Step)));
        float root = (float)Math.Sqrt(1 - Math.Pow(a.Beta2, a.Step));
        Elements("adamw", a.Values, [a.Values, a.Gradient, a.First, a.Second, a.GradientScale, a.Beta1, a.Beta2, a.Epsilon, keep, step, root, a.Values.Shape.Count]);
    }

    public void AdamW(ReadOnlySpan<AdamWArguments> all) => _many.AdamW(all);

    public bool TryMuon(ReadOnlySpan<MuonArguments> all)
    {
        _muon.Step(all);
        return true;
    }

    public void Clear(IReadOnlyList<Tensor> all) => _many.Clear(all);

    public double SumOfSquares(IReadOnlyList<Tensor> all) => _many.SumOfSquares(all);

    public void AdamW8Bit(in AdamW8BitArguments a)
    {
        nint count = a.Values.Shape.Count;
        if (count == 0)
        {
            return;
        }

        double root = Math.Sqrt(1 - Math.Pow(a.Beta2, a.Step));
        float epsilon = (float)(root * a.Epsilon), step = (float)(a.LearningRate * root / (1 - Math.Pow(a.Beta1, a.Step)));
        float keep = (float)(1 - ((double)a.LearningRate * a.WeightDecay));
        _maps ??= memory.Upload<float>([.. DynamicMaps.Signed, .. DynamicMaps.Unsigned, .. DynamicMaps.SignedBounds, 0, .. DynamicMaps.UnsignedBounds, 0], "optimizer");
        memory.Device.Launch(
            CudaKernelNames.Of("adamw8bit"),
            new LaunchShape((count + AdamW8BitArguments.BlockSize - 1) / AdamW8BitArguments.BlockSize, AdamW8BitArguments.BlockSize),
            [
                a.Values, a.Gradient, a.First, a.FirstScales, a.Second, a.SecondScales, _maps.Address, a.GradientScale, a.Beta1, a.Beta2, epsilon, keep, step,
                count,
            ]);
    }

    public void Round(IPackedWeight source, IPackedWeight target)
    {
        (DenseCudaPacking from, DenseCudaPacking to) = ((DenseCudaPacking)source, (DenseCudaPacking)target);
        nint count = from.Out * from.In;
        if (to.Values is { } floats)
        {
            Copy(from.Values!, floats);
        }
        else if (count > 0)
        {
            string kernel = to.Format == "bf16" ? "to_bf16_copy" : "to_f16_copy";
            memory.Device.Launch(CudaKernelNames.Of(kernel), CudaGrid.Elements(count), [from.Argument.Codes, to.Argument.Codes, count]);
        }
    }

    public void Copy(Tensor source, Tensor target)
    {
        if (target.ByteLength > 0)
        {
            half.Copy(source, target);
        }
    }

    public void Fill(Tensor x, float value)
    {
        if (value != 0)
        {
            Elements("fill", x, [x, value, x.Shape.Count]);
        }
        else if (x.ByteLength > 0)
        {
            memory.Device.Clear(At(x), x.ByteLength);
        }
    }

    public double SumOfSquares(Tensor x)
    {
        if (x.Shape.Count == 0)
        {
            return 0;
        }

        nint blocks = nint.Clamp((x.Shape.Count + SquaresPerBlock - 1) / SquaresPerBlock, 1, 1024);
        using CudaStorage sums = memory.Rent(blocks * sizeof(double), "gradients");
        memory.Device.Launch(CudaKernelNames.Of("sum_of_squares"), new LaunchShape(blocks, 256), [x, sums.Address, x.Shape.Count]);
        return memory.Download<double>(sums).Sum();
    }

    private static nint At(Tensor? tensor) => CudaStorage.AddressOf(tensor);

    private void MatMulWeight(Tensor dy, Tensor x, IPackedWeight w, Tensor dw, bool add)
    {
        if (CudaHalfProducts.Takes(dy, x))
        {
            half.MultiplyWeight(dy, x, w.Out, w.In, dw, add);
        }
        else
        {
            products.MultiplyWeight(At(dy), At(x), x.Shape.Rows, w.Out, w.In, At(dw), add);
        }
    }

    private void Norm(Tensor x, Tensor? weight, float epsilon, int centered, Tensor dy, Tensor dx, Tensor? dWeight, Tensor? dBias)
    {
        (nint rows, nint columns) = (x.Shape.Rows, x.Shape.Columns);
        if (x.Shape.Count == 0)
        {
            return;
        }

        using CudaStorage statistics = memory.Rent(2 * rows * sizeof(float), "gradients");
        memory.Device.Launch(
            CudaKernelNames.Of(CudaKernels.Variant("norm_gradient", x, dy)), CudaGrid.Rows(rows, columns), [x, weight, dy, dx, statistics.Address, columns, centered, epsilon]);
        if (dWeight is null && dBias is null)
        {
            return;
        }

        nint chunks = (rows + RowsPerChunk - 1) / RowsPerChunk;
        using CudaStorage partial = memory.Rent(2 * chunks * columns * sizeof(float), "gradients");
        memory.Device.Launch(
            CudaKernelNames.Of(CudaKernels.Variant("norm_gradient_weight", x, dy)), CudaGrid.Columns(columns, chunks), [x, dy, statistics.Address, partial.Address, columns, rows, RowsPerChunk]);
        AddRows(partial.Address, dWeight, chunks, 2 * columns);
        AddRows(partial.Address + (columns * sizeof(float)), dBias, chunks, 2 * columns);
    }

    // sum += Σ of the rows of x (∘ y).
    private void SumRows(Tensor x, Tensor? y, Tensor sum)
    {
        (nint rows, nint columns) = (x.Shape.Rows, x.Shape.Columns);
        if (x.Shape.Count == 0)
        {
            return;
        }

        nint chunks = (rows + RowsPerChunk - 1) / RowsPerChunk;
        using CudaStorage partial = memory.Rent(chunks * columns * sizeof(float), "gradients");
        memory.Device.Launch(CudaKernelNames.Of(CudaKernels.Variant("sum_row_chunks", x)), CudaGrid.Columns(columns, chunks), [x, y, partial.Address, columns, rows, RowsPerChunk]);
        AddRows(partial.Address, sum, chunks, columns);
    }

    private void AddRows(nint partial, Tensor? sum, nint rows, nint stride)
    {
        if (sum is not null)
        {
            memory.Device.Launch(CudaKernelNames.Of("sum_rows"), new LaunchShape((sum.Shape.Count + 31) / 32, 256), [partial, sum, sum.Shape.Count, rows, stride]);
        }
    }

    private void Elements(string kernel, Tensor y, ReadOnlySpan<KernelArgument> arguments)
    {
        if (y.Shape.Count > 0)
        {
            memory.Device.Launch(CudaKernelNames.Of(kernel), CudaGrid.Elements(y.Shape.Count), arguments);
        }
    }
}
