using Nibble.Backends;
using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.MachineCode;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Products in BF16 against double precision, and the order of sums of their kernels; the backend is to compute in BF16.</summary>
internal static unsafe class BFloat16Checks
{
    // rows, out, in: on both sides of the fewest rows (32), tiles (16, 32), panels (2 to 32), steps (32), blocks of steps (512) and parts (256).
    public static (int Rows, int Out, int In)[] Shapes { get; } =
        [(31, 20, 40), (32, 1, 1), (33, 31, 33), (40, 64, 32), (64, 70, 97), (47, 33, 1030), (300, 130, 65), (560, 17, 20)];

    public static IReadOnlyList<KernelCheck> All { get; } =
        [.. Shapes.SelectMany(shape => new[] { DType.F32, DType.BF16, DType.F16 }.Select(dtype => new KernelCheck($"BF16 products, {shape.Rows} × {shape.Out} × {shape.In}, W {dtype}", backend => CheckForms(backend, shape.Rows, shape.Out, shape.In, dtype))))];

    public static float Widened(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

    private static float TileOrder(float start, Func<int, float> a, Func<int, float> b, int steps)
    {
        for (int step = 0; step < steps; step++)
        {
            float even = 0, odd = 0;
            for (int k = 32 * step; k < 32 * (step + 1); k += 2)
            {
                even = MathF.FusedMultiplyAdd(a(k), b(k), even);
                odd = MathF.FusedMultiplyAdd(a(k + 1), b(k + 1), odd);
            }

            start += even + odd;
        }

        return start;
    }

    private static float ChainOrder(float start, Func<int, float> a, Func<int, float> b, int steps)
    {
        for (int k = 0; k < 32 * steps; k += 2)
        {
            start = MathF.FusedMultiplyAdd(a(k), b(k), MathF.FusedMultiplyAdd(a(k + 1), b(k + 1), start));
        }

        return start;
    }

    /// <summary>Compares a kernel, element by element, with the order of sums that it is to have.</summary>
    public static void Order(BFloat16Kernels kernels, int width)
    {
        Func<float, Func<int, float>, Func<int, float>, int, float> order = kernels is VdpBFloat16Kernels ? ChainOrder : TileOrder;
        const int MostRows = 70, Steps = 3;
        Random random = new(5);
        using Tensor a = Tensor.OnHost(new Shape(5 * 16 * Steps, 32), DType.BF16), b = Tensor.OnHost(new Shape(Steps * 16, width), DType.I32);
        using Tensor start = Random(new Shape(MostRows, width), 6, skip: 3), c = Empty(new Shape(MostRows, width), skip: 1);
        foreach (ref ushort value in a.HostSpan<ushort>())
        {
            value = Number(random);
        }

        foreach (ref uint pair in b.HostSpan<uint>())
        {
            pair = (uint)(Number(random) | Number(random) << 16);
        }

        foreach (int rows in Enumerable.Range(1, 34).Append(63).Append(64).Append(MostRows))
        {
            c.HostSpan<float>().Fill(77);
            kernels.Run(new BFloat16Tile
            {
                A = (ushort*)a.HostPointer, TileStride = Steps * 512, B = (uint*)b.HostPointer, Steps = Steps, Rows = rows,
                Start = (float*)start.HostPointer, StartStride = width, C = (float*)c.HostPointer, CStride = width,
            });
            for (int i = 0; i < MostRows * width; i++)
            {
                (int row, int column) = (i / width, i % width);
                float expected = row >= rows ? 77 : order(
                    start.HostSpan<float>()[i],
                    k => Widened(a.HostSpan<ushort>()[(row / 16 * Steps * 512) + (k / 32 * 512) + (row % 16 * 32) + (k % 32)]),
                    k => Widened((ushort)(b.HostSpan<uint>()[(k / 2 * width) + column] >> (k % 2 * 16))),
                    Steps);
                Require(expected.Equals(c.HostSpan<float>()[i]), $"{kernels.Name}, {rows} rows, row {row}, column {column}: {c.HostSpan<float>()[i]:G9} for {expected:G9}");
            }
        }
    }

    // Of magnitudes from 2^-8 to 2^7, so that every order rounds otherwise.
    private static ushort Number(Random random) => (ushort)((random.Next(2) << 15) | ((119 + random.Next(16)) << 7) | random.Next(128));

    /// <summary>All forms of the product: forward with bias, added, gradient of the input written and added, gradient of the weight.</summary>
    public static List<float[]> Forms(IBackend backend, int rows, int outs, int ins, DType dtype = DType.F32)
    {
        using Tensor x = Random(new Shape(rows, ins), 1, skip: 1), w = Random(new Shape(outs, ins), 2), dy = Random(new Shape(rows, outs), 3, skip: 1), bias = Random(new Shape(outs), 4);
        using Tensor y = Empty(new Shape(rows, outs), skip: 1), added = Random(new Shape(rows, outs), 5), dx = Empty(new Shape(rows, ins)), more = Random(new Shape(rows, ins), 6, skip: 1);
        using Tensor stored = Convert(w, dtype), zeros = Tensor.OnHost(new Shape(outs, ins), DType.F32), dw = Tensor.OnHost(new Shape(outs, ins), DType.F32);
        using IPackedWeight packed = backend.Prepare(stored), gradient = backend.Prepare(zeros);
        backend.Kernels.MatMul(x, packed, bias, y);
        backend.Kernels.MatMulAdd(x, packed, added);
        backend.Gradients.MatMulInputInto(dy, packed, dx);
        backend.Gradients.MatMulInput(dy, packed, more);
        backend.Gradients.MatMulWeight(dy, x, gradient, backend.Gradients.Values(gradient)!);
        backend.Gradients.MatMulWeight(dy, x, gradient, backend.Gradients.Values(gradient)!);
        backend.Gradients.ToRows(gradient, backend.Gradients.Values(gradient)!, dw);
        return [.. new[] { y, added, dx, more, dw }.Select(tensor => tensor.HostSpan<float>().ToArray())];
    }

    private static void CheckForms(IBackend backend, int rows, int outs, int ins, DType dtype)
    {
        List<float[]> forms = Forms(backend, rows, outs, ins, dtype);
        using Tensor stored = Convert(Random(new Shape(outs, ins), 2), dtype), values = Widen(stored);
        bool rounds = rows >= BFloat16Kernels.FewestRows;
        float[] x = Rounded(Random(new Shape(rows, ins), 1, skip: 1), rounds), w = Rounded(values, rounds), dy = Rounded(Random(new Shape(rows, outs), 3, skip: 1), rounds);
        float[] bias = Rounded(Random(new Shape(outs), 4), false), added = Rounded(Random(new Shape(rows, outs), 5), false), more = Rounded(Random(new Shape(rows, ins), 6, skip: 1), false);
        string what = $"{dtype}, {rows} × {outs} × {ins}";
        Within(forms[0], outs, ins, (row, column) => bias[column], (row, column, k) => x[(row * ins) + k] * (double)w[(column * ins) + k], "y, " + what);
        Within(forms[1], outs, ins, (row, column) => added[(row * outs) + column], (row, column, k) => x[(row * ins) + k] * (double)w[(column * ins) + k], "y +=, " + what);
        Within(forms[2], ins, outs, (row, column) => 0, (row, column, k) => dy[(row * outs) + k] * (double)w[(k * ins) + column], "dx, " + what);
        Within(forms[3], ins, outs, (row, column) => more[(row * ins) + column], (row, column, k) => dy[(row * outs) + k] * (double)w[(k * ins) + column], "dx +=, " + what);
        Within(forms[4], ins, rows, (row, column) => 0, (row, column, k) => 2 * dy[(k * outs) + row] * (double)x[(k * ins) + column], "dW, " + what);
    }

    private static float[] Rounded(Tensor tensor, bool rounds)
    {
        using (tensor)
        {
            return [.. tensor.HostSpan<float>().ToArray().Select(value => rounds ? Widened(TensorConvert.F32ToBF16(value)) : value)];
        }
    }

    // A sum of n products is off by at most n + 1 roundings of its largest part: the bound that docs/kernels.md states.
    private static void Within(float[] actual, int columns, int depth, Func<int, int, double> start, Func<int, int, int, double> product, string what)
    {
        for (int i = 0; i < actual.Length; i++)
        {
            (int row, int column) = (i / columns, i % columns);
            double sum = start(row, column), size = Math.Abs(sum);
            for (int k = 0; k < depth; k++)
            {
                double term = product(row, column, k);
                sum += term;
                size += Math.Abs(term);
            }

            double bound = (depth + 2) * size / (1 << 24);
            Require(Math.Abs(actual[i] - sum) <= bound, $"{what}, row {row}, column {column}: {actual[i]:G9} for {sum:G9}, bound {bound:G3}");
        }
    }

    private static void Require(bool holds, string message)
    {
        if (!holds)
        {
            throw new InvalidOperationException(message);
        }
    }
}
