using Nibble.Backends;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Kernels;

/// <summary>
/// Kernels with activations in BF16 against the same backend's in F32, on the same numbers: what differs is the rounding of results.
/// For backends that compute so.
/// </summary>
internal static class HalfChecks
{
    private const float Tolerance = 0.012f;

    public static IReadOnlyList<KernelCheck> All { get; } =
    [
        new("bf16 sums and copies", Sums),
        new("bf16 activations and gates", Elements),
        new("bf16 norms", Norms),
        new("bf16 norms that keep their input", KeptNorms),
        new("bf16 rotation, cache, columns", Places),
        new("bf16 cross-entropy", CrossEntropy),
        new("bf16 products", Products),
        new("bf16 products that end in GELU", GeluProducts),
        new("bf16 narrow products", NarrowProducts),
        new("bf16 gradient of weights of odd height", OddHeight),
        new("bf16 products with packed weights", PackedProducts),
        new("bf16 attention of rows, side by side", backend => AttentionOfRows(backend, 2, 75, 3, 3, 16, fused: true)),
        new("bf16 attention of rows, grouped heads", backend => AttentionOfRows(backend, 1, 130, 4, 2, 64, fused: false)),
        new("bf16 attention of rows, whole tiles", backend => AttentionOfRows(backend, 2, 128, 2, 2, 64, fused: true)),
        new("bf16 attention of rows, wide heads", backend => AttentionOfRows(backend, 1, 192, 2, 2, 128, fused: false)),
        .. new (string What, int Batch, int Length, int Start, int Heads, int KvHeads, int Dim, int Window, bool Texts)[]
        {
            ("one tile", 2, 20, 0, 2, 2, 64, 0, false),
            ("several tiles, grouped heads", 1, 150, 0, 4, 2, 128, 0, false),
            ("a narrow head of odd width", 1, 70, 0, 2, 1, 12, 0, false),
            ("after a prefix, texts in a row", 2, 90, 5, 2, 1, 32, 0, true),
            ("a window", 1, 140, 0, 1, 1, 64, 33, false),
        }.Select(s => new KernelCheck($"bf16 attention, {s.What}", backend => Attention(backend, s.Batch, s.Length, s.Start, s.Heads, s.KvHeads, s.Dim, s.Window, s.Texts))),
    ];

    /// <summary>Attention over columns of one matrix, or of three, against that over a cache.</summary>
    private static void AttentionOfRows(IBackend backend, int batch, int length, int heads, int kvHeads, int dim, bool fused)
    {
        int own = heads * dim, shared = kvHeads * dim, all = own + (2 * shared);
        nint rows = (nint)batch * length;
        Shape q = new(rows, heads, dim), cache = new(batch, kvHeads, length, dim);
        Tensor[] t = [.. new[] { new Shape(rows, all), new Shape(rows, own) }.Select((shape, i) => KernelData.Convert(KernelData.Random(shape, 31 + i), DType.BF16).Upload(backend))];
        Tensor New(Shape shape, DType dtype = DType.BF16) => backend.Allocate(shape, dtype);
        Tensor Part(Tensor x, int first, int count)
        {
            Tensor part = New(new Shape(rows, count));
            backend.Kernels.CopyColumns(x, first, part);
            return part;
        }

        (Tensor query, Tensor key, Tensor value) = (Part(t[0], 0, own), Part(t[0], own, shared), Part(t[0], own + shared, shared));
        (Tensor keys, Tensor values) = (New(cache), New(cache));
        backend.Kernels.AppendToCache(key.Reshape(new Shape(rows, kvHeads, dim)), keys, 0);
        backend.Kernels.AppendToCache(value.Reshape(new Shape(rows, kvHeads, dim)), values, 0);
        float scale = 0.7f / MathF.Sqrt(dim);
        (Tensor expected, Tensor sums, Tensor dQuery, Tensor dKeys, Tensor dValues) = (New(q), New(new Shape(rows, heads), DType.F32), New(q), New(cache), New(cache));
        AttentionArguments a = new(query.Reshape(q), keys, values, expected, batch, length, 0, null, scale, 0) { LogSums = sums };
        backend.Kernels.Attention(a);
        backend.Gradients.AttentionInto(a, t[1], dQuery, dKeys, dValues);
        (Tensor dKey, Tensor dValue) = (New(key.Shape), New(key.Shape));
        backend.Gradients.AppendToCache(dKeys, 0, dKey);
        backend.Gradients.AppendToCache(dValues, 0, dValue);
        (Tensor actual, Tensor d) = (New(new Shape(rows, own)), New(t[0].Shape));
        RowAttentionArguments r = fused
            ? new(t[0], 0, t[0], own, t[0], own + shared, actual, heads, kvHeads, dim, batch, length, null, scale, 0) { LogSums = sums }
            : new(query, 0, key, 0, value, 0, actual, heads, kvHeads, dim, batch, length, null, scale, 0) { LogSums = sums };
        (Tensor q2, Tensor k2, Tensor v2) = fused ? (d, d, d) : (New(query.Shape), New(key.Shape), New(key.Shape));
        backend.Kernels.AttendRows(r);
        backend.Gradients.AttendRows(r, t[1], q2, k2, v2);
        if (fused)
        {
            (q2, k2, v2) = (Part(d, 0, own), Part(d, own, shared), Part(d, own + shared, shared));
        }

        foreach ((string what, Tensor x, Tensor y) in new[] { ("output", expected, actual), ("query's gradient", dQuery, q2), ("keys' gradient", dKey, k2), ("values' gradient", dValue, v2) })
        {
            (float[] one, float[] two) = (Read(backend, x), Read(backend, y));
            double largest = one.Max(Math.Abs);
            int wrong = Enumerable.Range(0, one.Length).FirstOrDefault(i => !(Math.Abs(one[i] - two[i]) <= Tolerance * largest), -1);
            if (wrong >= 0)
            {
                throw new InvalidOperationException($"attention of rows: {what}[{wrong}] is {two[wrong]:R} over rows, {one[wrong]:R} over a cache");
            }
        }
    }

    private static float[] Read(IBackend backend, Tensor tensor)
    {
        using Tensor widened = As(backend, tensor, DType.F32);
        float[] values = new float[widened.Shape.Count];
        backend.Read<float>(widened, values);
        return values;
    }

    private static void Sums(IBackend backend)
    {
        foreach (int count in new[] { 5, 64, 1003 })
        {
            Shape shape = new(count);
            Compare(backend, "add to F32", [(shape, true), (shape, false)], t => backend.Kernels.Add(t[0], t[1]));
            Compare(backend, "add from F32", [(shape, false), (shape, true)], t => backend.Kernels.Add(t[0], t[1]));
            Compare(backend, "add", [(shape, true), (shape, true)], t => backend.Kernels.Add(t[0], t[1]));
            Compare(backend, "scale", [(shape, true)], t => backend.Kernels.Scale(t[0], 1.5f));
            Compare(backend, "dropout", [(shape, true)], t => backend.Kernels.Dropout(t[0], 77, 0.3f));
            Compare(backend, "sum of rows", [(new Shape(130, count), true), (shape, false)], t => backend.Gradients.SumRows(t[0], t[1]));
        }
    }

    private static void Elements(IBackend backend)
    {
        (Shape, bool)[] five = [.. Enumerable.Repeat((new Shape(37, 9), true), 5)];
        foreach (GeluKind kind in Enum.GetValues<GeluKind>())
        {
            Compare(backend, "gelu", five[..2], t => backend.Kernels.Gelu(t[0], kind, t[1]));
            Compare(backend, "gelu's gradient", five[..2], t => backend.Gradients.Gelu(t[0], kind, t[1]));
        }

        Compare(backend, "swiglu", five[..3], t => backend.Kernels.SwiGlu(t[0], t[1], t[2]));
        Compare(backend, "swiglu's gradient", five, t => backend.Gradients.SwiGlu(t[0], t[1], t[2], t[3], t[4]));
        Compare(backend, "squared relu gate", five[..3], t => backend.Kernels.SquaredReluGate(t[0], t[1], t[2]));
        Compare(backend, "its gradient", five, t => backend.Gradients.SquaredReluGate(t[0], t[1], t[2], t[3], t[4]));
    }

    private static void Norms(IBackend backend)
    {
        foreach (int columns in new[] { 8, 77, 1024 })
        {
            Shape x = new(70, columns), w = new(columns);
            foreach (bool half in new[] { false, true })
            {
                Compare(backend, "layernorm", [(x, half), (w, false), (w, false), (x, true)], t => backend.Kernels.LayerNorm(t[0], t[1], t[2], 1e-5f, t[3]));
                Compare(backend, "rmsnorm", [(x, half), (x, true)], t => backend.Kernels.RmsNorm(t[0], null, 1e-5f, t[1]));
                Compare(backend, "layernorm's gradient", [(x, half), (w, false), (x, true), (x, half), (w, false), (w, false)],
                    t => backend.Gradients.LayerNorm(t[0], t[1], 1e-5f, t[2], t[3], t[4], t[5]));
                Compare(backend, "rmsnorm's gradient", [(x, half), (w, false), (x, true), (x, half), (w, false)],
                    t => backend.Gradients.RmsNorm(t[0], t[1], 1e-5f, t[2], t[3], t[4]));
            }
        }
    }

    // One row a block, some, and as many as a block takes; a warp that is full, and one that is not.
    private static void KeptNorms(IBackend backend)
    {
        foreach ((int rows, int columns) in new[] { (5, 8), (70, 1032), (1300, 72), (16500, 8) })
        {
            foreach (bool centered in new[] { false, true })
            {
                Shape x = new(rows, columns), w = new(columns);
                (Shape, bool)[] specs = [(x, false), (w, false), (w, false), (x, true), (x, true), (x, false), (w, false), (w, false), (x, true), (new Shape(1, columns), false)];
                foreach ((bool add, bool sums) in new[] { (true, true), (false, true), (true, false) })
                {
                    Compare(backend, $"kept norm, {rows} × {columns}", specs, t => KeptNorm(backend, t, centered, add, sums));
                }
            }
        }
    }

    // Tensors: x, weight, bias, y, dy, dx, their gradients, dx rounded, its sums; what stands there in F32 by other kernels.
    private static void KeptNorm(IBackend backend, Tensor[] t, bool centered, bool add, bool sums)
    {
        if (backend.Gradients.KeepsNormInput(t[0], t[3]))
        {
            Tensor kept = backend.Allocate(t[3].Shape, DType.BF16), statistics = backend.Allocate(new Shape(t[3].Shape.Rows, 2), DType.F32);
            KeptNorm norm = new(t[0], t[1], centered ? t[2] : null, centered, 1e-5f, t[3], kept, statistics);
            backend.Gradients.NormKept(norm);
            backend.Gradients.Fill(t[0], float.NaN);
            backend.Gradients.NormKeptGradient(norm, new KeptNormGradient(t[4], t[5], add, sums ? t[6] : null, sums && centered ? t[7] : null, sums ? t[8] : null, sums ? t[9] : null));
            backend.Gradients.Fill(t[0], 0);
            return;
        }

        if (t[3].DType == DType.BF16)
        {
            throw new InvalidOperationException("no norm that keeps its input");
        }

        if (!add)
        {
            backend.Gradients.Fill(t[5], 0);
        }

        (Tensor? dWeight, Tensor? dBias) = (sums ? t[6] : null, sums ? t[7] : null);
        if (centered)
        {
            backend.Kernels.LayerNorm(t[0], t[1], t[2], 1e-5f, t[3]);
            backend.Gradients.LayerNorm(t[0], t[1], 1e-5f, t[4], t[5], dWeight, dBias);
        }
        else
        {
            backend.Kernels.RmsNorm(t[0], t[1], 1e-5f, t[3]);
            backend.Gradients.RmsNorm(t[0], t[1], 1e-5f, t[4], t[5], dWeight);
        }

        backend.Gradients.Fill(t[0], 0);
        if (sums)
        {
            backend.Gradients.Copy(t[5], t[8]);
            backend.Gradients.Fill(t[9], 0);
            backend.Gradients.SumRows(t[5], t[9]);
        }
    }

    private static void Places(IBackend backend)
    {
        foreach (int dim in new[] { 6, 16, 64 })
        {
            using Tensor host = KernelData.Indices([.. Enumerable.Range(0, 10).Select(i => i % 5)]), positions = host.Upload(backend);
            Shape x = new(10, 3, dim), table = new(5, dim / 2), cache = new(2, 3, 9, dim);
            Compare(backend, "rope", [(x, true), (table, false), (table, false)], t => backend.Kernels.Rope(t[0], positions, t[1], t[2]));
            Compare(backend, "rope back", [(x, true), (table, false), (table, false)], t => backend.Gradients.Rope(t[0], positions, t[1], t[2]));
            Compare(backend, "append", [(x, true), (cache, true)], t => backend.Kernels.AppendToCache(t[0], t[1], 2));
            Compare(backend, "append F32", [(x, false), (cache, true)], t => backend.Kernels.AppendToCache(t[0], t[1], 2));
            Compare(backend, "append's gradient", [(cache, true), (x, true)], t => backend.Gradients.AppendToCache(t[0], 2, t[1]));
            Compare(backend, "append's gradient, F32", [(cache, true), (x, false)], t => backend.Gradients.AppendToCache(t[0], 2, t[1]));
            (Shape, bool)[] parts = [(new Shape(7, 3 * dim), true), (new Shape(7, dim), true)];
            Compare(backend, "columns", parts, t => backend.Kernels.CopyColumns(t[0], dim, t[1]));
            Compare(backend, "columns' gradient", parts, t => backend.Gradients.CopyColumns(t[1], dim, t[0]));
        }
    }

    private static void CrossEntropy(IBackend backend)
    {
        foreach (int columns in new[] { 3, 50, 1001, 4096 })
        {
            using Tensor host = KernelData.Indices([0, 2, -1, columns - 1, 1]), targets = host.Upload(backend);
            Compare(backend, $"cross-entropy over {columns}", [(new Shape(5, columns), true), (new Shape(5), false)], t => backend.Gradients.CrossEntropy(t[0], targets, 0.5f, t[1]));
        }
    }

    private static void Products(IBackend backend)
    {
        using Tensor host = KernelData.Convert(KernelData.Random(new Shape(24, 40), 5), DType.BF16), floats = KernelData.Widen(host);
        foreach (Tensor source in new[] { host, floats })
        {
            using IPackedWeight w = backend.Prepare(source);
            Shape x = new(16, 40), y = new(16, 24), bias = new(24);
            foreach (bool half in new[] { false, true })
            {
                Compare(backend, "product", [(x, true), (bias, false), (y, half)], t => backend.Kernels.MatMul(t[0], w, t[1], t[2]));
                Compare(backend, "product added", [(x, true), (y, half)], t => backend.Kernels.MatMulAdd(t[0], w, t[1]));
                Compare(backend, "input's gradient", [(y, true), (x, half)], t => backend.Gradients.MatMulInput(t[0], w, t[1]));
                Compare(backend, "input's gradient, written", [(y, true), (x, half)], t => backend.Gradients.MatMulInputInto(t[0], w, t[1]));
                Compare(backend, "weight's gradient", [(y, true), (x, half), (new Shape(24 * 40), false)], t => backend.Gradients.MatMulWeight(t[0], t[1], w, t[2]));
                Compare(backend, "weight's gradient, written", [(y, true), (x, half), (new Shape(24 * 40), false)], t =>
                {
                    // What was there is nobody's.
                    backend.Gradients.Fill(t[2], float.NaN);
                    backend.Gradients.MatMulWeightInto(t[0], t[1], w, t[2]);
                });
            }
        }
    }

    // The same op with one product, and in two steps. A weight that is decoded, and one in BF16.
    private static void GeluProducts(IBackend backend)
    {
        if (backend.Kernels is not IFusedKernels fused)
        {
            throw new InvalidOperationException("no fused kernels");
        }

        foreach ((int rows, int outs, int ins) in new[] { (33, 24, 40), (130, 136, 72) })
        {
            using Tensor host = KernelData.Convert(KernelData.Random(new Shape(outs, ins), 5), DType.BF16), floats = KernelData.Widen(host);
            using IPackedWeight dense = backend.Prepare(host), wide = backend.Prepare(floats);
            foreach (IPackedWeight w in new[] { dense, wide })
            {
                Shape x = new(rows, ins), y = new(rows, outs);
                Compare(backend, "product with GELU", [(x, true), (new Shape(outs), false), (y, true)], t =>
                {
                    bool half = t[2].DType == DType.BF16;
                    if (fused.TryGelu(t[0], new FusedProduct(w, t[1], t[2]), GeluKind.Tanh) != half || fused.TryGelu(t[0], new FusedProduct(w, t[1], t[2]), GeluKind.Exact))
                    {
                        throw new InvalidOperationException("the product with GELU is for tanh and BF16, and only for them");
                    }

                    if (!half)
                    {
                        backend.Kernels.MatMul(t[0], w, t[1], t[2]);
                        backend.Kernels.Gelu(t[2], GeluKind.Tanh, t[2]);
                    }
                });
                Compare(backend, "gradient through GELU", [(y, true), (x, true), (x, true)], t =>
                {
                    if (backend.Gradients.HasMatMulInputGelu(t[0], w, t[1], GeluKind.Tanh) != (t[2].DType == DType.BF16) || backend.Gradients.HasMatMulInputGelu(t[0], w, t[1], GeluKind.Exact))
                    {
                        throw new InvalidOperationException("the gradient through GELU is for tanh and BF16, and only for them");
                    }

                    if (t[2].DType == DType.BF16)
                    {
                        backend.Gradients.MatMulInputGelu(t[0], w, t[1], GeluKind.Tanh, t[2]);
                    }
                    else
                    {
                        backend.Gradients.MatMulInputInto(t[0], w, t[2]);
                        backend.Gradients.Gelu(t[1], GeluKind.Tanh, t[2]);
                    }
                });
            }
        }
    }

    // Matrices of few rows or columns, as adapters have them; the kernels want copies in BF16, which a training makes.
    private static void NarrowProducts(IBackend backend)
    {
        foreach ((int rows, int rank, int wide) in new[] { (1, 8, 40), (9, 16, 2056), (7, 8, 4104), (6, 12, 64) })
        {
            using Tensor a = KernelData.Widen(KernelData.Convert(KernelData.Random(new Shape(rank, wide), 5), DType.BF16)), b = a.Reshape(new Shape(wide, rank));
            using IPackedWeight down = backend.Prepare(a), up = backend.Prepare(b);
            using Backends.Cuda.CudaHalfCopies copies = ((Backends.Cuda.CudaBackend)backend).HalfCopies([down, up]);
            copies.Begin();
            Compare(backend, $"{rows} × {wide} to {rank}", [(new Shape(rows, wide), true), (new Shape(rows, rank), true)], t => backend.Kernels.MatMulScaled(t[0], down, 1.5f, t[1]));
            Compare(backend, $"{rows} × {wide} back to {rank}", [(new Shape(rows, wide), true), (new Shape(rows, rank), true)], t => backend.Gradients.MatMulInputInto(t[0], up, t[1]));
            Compare(backend, $"{rows} × {wide} back to {rank}, added", [(new Shape(rows, wide), true), (new Shape(rows, rank), true)], t => backend.Gradients.MatMulInput(t[0], up, t[1]));
        }
    }

    // Rows of the gradient that are wider than the weight is high: all but the last few features go together.
    private static void OddHeight(IBackend backend)
    {
        foreach (int outs in new[] { 3, 8, 29, 64 })
        {
            const int rows = 50, ins = 40;
            using IPackedWeight w = backend.Prepare(KernelData.Random(new Shape(outs, ins), 7));
            Shape wide = new(rows, (outs + 63) / 64 * 64);
            Tensor[] t = [.. new[] { (wide, 3), (new Shape(rows, ins), 4) }.Select(item => KernelData.Convert(KernelData.Random(item.Item1, item.Item2), DType.BF16).Upload(backend))];
            Tensor narrow = backend.Allocate(new Shape(rows, outs), DType.BF16), one = backend.Allocate(new Shape(outs * ins), DType.F32), two = backend.Allocate(one.Shape, DType.F32);
            backend.Kernels.CopyColumns(t[0], 0, narrow);
            backend.Gradients.Fill(one, 0.5f);
            backend.Gradients.Fill(two, 0.5f);
            backend.Gradients.MatMulWeight(narrow, t[1], w, one);
            backend.Gradients.MatMulWeight(t[0], t[1], w, two);
            (float[] expected, float[] actual) = (Read(backend, one), Read(backend, two));
            int wrong = Enumerable.Range(0, expected.Length).FirstOrDefault(i => !(Math.Abs(expected[i] - actual[i]) <= 1e-4f * (1 + Math.Abs(expected[i]))), -1);
            if (wrong >= 0)
            {
                throw new InvalidOperationException($"{outs} features: {actual[wrong]:R} for {expected[wrong]:R} at {wrong}");
            }
        }
    }

    // More rows than one tile of any product, odd numbers of features and columns, and columns that are in parts where the backend splits them.
    private static void PackedProducts(IBackend backend)
    {
        foreach ((int rows, int outs, int ins) in new[] { (20, 40, 200), (75, 200, 1160), (300, 37, 192) })
        {
            using QuantizedWeight nested = PackingCheckData.Codebook(outs, ins / 64 * 64, new Random(outs), 64, nested: true);
            using QuantizedWeight affine = PackingCheckData.Affine(outs, ins, new Random(ins), 4, 128, offsets: 'r', dtype: DType.F16);
            foreach (QuantizedWeight weight in new[] { nested, affine })
            {
                using IPackedWeight w = backend.Prepare(weight, ActivationType.F32);
                Shape x = new(rows, w.In), y = new(rows, outs), bias = new(outs);
                foreach (bool half in new[] { false, true })
                {
                    Compare(backend, $"{w.Name} × {rows}", [(x, true), (bias, false), (y, half)], t => backend.Kernels.MatMul(t[0], w, t[1], t[2]));
                    Compare(backend, $"{w.Name} × {rows}, added", [(x, true), (y, half)], t => backend.Kernels.MatMulAdd(t[0], w, t[1]));
                }
            }
        }
    }

    private static void Attention(IBackend backend, int batch, int length, int start, int heads, int kvHeads, int dim, int window, bool texts)
    {
        using Tensor? host = texts ? KernelData.Indices([.. Enumerable.Range(0, batch * length).Select(i => i % length < 7 ? 0 : i % length < 41 ? 7 + start : 71 + start).Select((first, i) => Math.Min(first, start + (i % length)))]) : null;
        using Tensor? firsts = host?.Upload(backend);
        Shape q = new((nint)batch * length, heads, dim), cache = new(batch, kvHeads, start + length, dim);
        // Query, keys, values, output, then the gradients of all four.
        (Shape, bool)[] tensors = [(q, true), (cache, true), (cache, true), (q, true), (q, true), (q, true), (cache, true), (cache, true)];
        Compare(backend, "attention", tensors, t =>
        {
            using Tensor sums = backend.Allocate(new Shape(q[0], heads), DType.F32);
            AttentionArguments a = new(t[0], t[1], t[2], t[3], batch, length, start, firsts, 0.7f / MathF.Sqrt(dim), window) { LogSums = sums };
            backend.Kernels.Attention(a);
            backend.Gradients.Attention(a, t[4], t[5], t[6], t[7]);
        });
    }

    /// <summary>Runs the same call on F32 and on BF16 where a tensor may be so; all tensors start with the same random numbers.</summary>
    private static void Compare(IBackend backend, string what, (Shape Shape, bool Half)[] specs, Action<Tensor[]> run)
    {
        Tensor[] start = [.. specs.Select((spec, i) => KernelData.Widen(KernelData.Convert(KernelData.Random(spec.Shape, 11 + i), DType.BF16)).Upload(backend))];
        Tensor[] floats = [.. start.Select(tensor => As(backend, tensor, DType.F32))];
        Tensor[] halves = [.. start.Select((tensor, i) => As(backend, tensor, specs[i].Half ? DType.BF16 : DType.F32))];
        run(floats);
        run(halves);
        for (int i = 0; i < specs.Length; i++)
        {
            using Tensor widened = As(backend, halves[i], DType.F32);
            float[] expected = new float[specs[i].Shape.Count], actual = new float[expected.Length];
            backend.Read<float>(floats[i], expected);
            backend.Read<float>(widened, actual);
            double largest = expected.Max(Math.Abs);
            for (int e = 0; e < expected.Length; e++)
            {
                if (!(Math.Abs(expected[e] - actual[e]) <= Tolerance * (Math.Abs(expected[e]) + largest)))
                {
                    throw new InvalidOperationException($"{what}: tensor {i} {specs[i].Shape}[{e}] is {actual[e]:R} in BF16, {expected[e]:R} in F32");
                }
            }
        }

        Array.ForEach([.. start, .. floats, .. halves], tensor => tensor.Dispose());
    }

    private static Tensor As(IBackend backend, Tensor source, DType dtype)
    {
        Tensor copy = backend.Allocate(source.Shape, dtype);
        backend.Gradients.Copy(source, copy);
        return copy;
    }
}
