using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Packings;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Cuda;

/// <summary>Products by warpgroups: tiles and parts of any plan, whichever the costs choose.</summary>
public class WideProductTests
{
    [Fact]
    public void APlanCoversAllRowsAndItsPartsFitTheCounters()
    {
        foreach (int[] sizes in new[] { CudaKernelNames.WideRows, CudaKernelNames.Int8WideRows })
        {
            foreach (int features in new[] { 1, 2, 31, 32, 33, 86, 131, 132, 133, 250, 1002 })
            {
                foreach (int rows in new[] { 33, 64, 65, 127, 128, 129, 256, 257, 1000, 2048, 5000 })
                {
                    foreach (int units in new[] { 1, 2, 7, 8, 32, 86 })
                    {
                        WidePlan plan = WidePlan.Of(features, rows, units, WideProducts.Blocks, sizes, integers: sizes == CudaKernelNames.Int8WideRows);
                        Assert.Contains(plan.TileRows, sizes);
                        Assert.InRange(rows, ((plan.RowTiles - 1) * plan.TileRows) + 1, plan.RowTiles * plan.TileRows);
                        Assert.Equal(plan.RowTiles * features, plan.Tiles);
                        Assert.InRange(plan.Splits, 1, Math.Min(8, units));
                        Assert.InRange(plan.Tiles - plan.Whole, 0, WideProducts.Blocks - 1);
                        Assert.True(plan.Splits > 1 || plan.Whole == plan.Tiles);
                    }
                }
            }
        }
    }

    [SkippableTheory]
    [InlineData("codebook4")]
    [InlineData("affine2")]
    [InlineData("affine3")]
    [InlineData("affine4")]
    [InlineData("affine8")]
    [InlineData("codebook4_small")]
    [InlineData("affine2_small")]
    [InlineData("affine3_small")]
    [InlineData("affine4_small")]
    [InlineData("affine8_small")]
    public void AnyPlanGivesTheProduct(string format)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        // Neither features, rows nor columns are whole tiles; features are asked for from within a unit on, and rows of y are longer.
        const int outs = 301, ins = 712, first = 20, count = 270, stride = count + 3;
        Random random = new(outs);
        bool small = format.EndsWith("_small", StringComparison.Ordinal);
        using QuantizedWeight weight = format.StartsWith("codebook4", StringComparison.Ordinal)
            ? PackingCheckData.Codebook(outs, 704, random, small ? 32 : 64, nested: true)
            : PackingCheckData.Affine(outs, ins, random, format["affine".Length] - '0', small ? 32 : 128, offsets: 'r');
        using CudaBackend backend = new(new EmulatedDevice(), DType.BF16);
        using CudaPacking packing = (CudaPacking)backend.Prepare(weight, ActivationType.F32);
        Assert.Equal(format, packing.TensorFormat);
        WideProducts products = new(backend.Memory);
        int units = (int)((packing.In + 127) / 128);
        foreach (int size in CudaKernelNames.WideRows)
        {
            int rows = size + 11;
            using Tensor host = KernelData.Random(new Shape(rows, packing.In), size), x = host.Upload(backend), dense = weight.Dequantize();
            // As BF16 it is read as it stands, by formats that can turn their codes.
            using Tensor rounded = host.To(DType.BF16), half = rounded.Upload(backend);
            float[] wanted = Product(host, dense, first, count);
            float largest = wanted.Max(Math.Abs);
            float[]? whole = null;
            foreach ((int kept, int splits, CudaNumber type) in new[] { (6, 1, CudaNumber.F32), (6, 1, CudaNumber.BF16), (2, 3, CudaNumber.F32), (0, units, CudaNumber.BF16) })
            {
                using CudaStorage y = backend.Memory.Upload<float>(Enumerable.Repeat(float.NaN, rows * stride).ToArray(), "tensors");
                CudaProduct call = new(CudaStorage.AddressOf(type == CudaNumber.F32 ? x : half), rows, 0, y.Address, stride, first, count);
                WidePlan plan = WideProducts.Plan(call, units, [size]) with { Whole = kept, Splits = splits };
                Assert.Equal(6, plan.Tiles);
                products.Multiply(packing, call, plan, format, type, CudaNumber.F32);
                float[] all = backend.Memory.Download<float>(y), made = [.. Enumerable.Range(0, rows * count).Select(i => all[(i / count * stride) + (i % count)])];
                Assert.Equal(rows * 3, all.Count(float.IsNaN));
                whole ??= made;
                for (int i = 0; i < made.Length; i++)
                {
                    Assert.True(Math.Abs(made[i] - wanted[i]) <= 0.01f * largest, $"{plan}: {made[i]} for {wanted[i]} at {i}");
                    Assert.True(Math.Abs(made[i] - whole[i]) <= 1e-5f * largest, $"{plan}: {made[i]} for {whole[i]} at {i}");
                }
            }
        }
    }

    [SkippableFact]
    public void RowsOfBFloat16AreRoundedOnceAndNothingBesideThemIsWritten()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        // A first tile whose features are all asked for in whole lines, and a last one that ends within them.
        const int outs = 304, ins = 256, first = 16, count = 272, stride = count + 8;
        Random random = new(outs);
        using QuantizedWeight weight = PackingCheckData.Codebook(outs, ins, random, 64);
        using CudaBackend backend = new(new EmulatedDevice(), DType.BF16);
        using CudaPacking packing = (CudaPacking)backend.Prepare(weight, ActivationType.F32);
        WideProducts products = new(backend.Memory);
        float[] biases = [.. Enumerable.Range(0, outs).Select(_ => (float)random.NextDouble())];
        using CudaStorage bias = backend.Memory.Upload<float>(biases, "tensors");
        foreach (int size in CudaKernelNames.WideRows)
        {
            int rows = size + 21;
            using Tensor host = KernelData.Random(new Shape(rows, ins), size), rounded = host.To(DType.BF16), x = rounded.Upload(backend), exact = rounded.To(DType.F32), dense = weight.Dequantize();
            float[] wanted = Product(exact, dense, first, count);
            float largest = wanted.Max(Math.Abs);
            foreach (int splits in new[] { 1, 2 })
            {
                using CudaStorage y = backend.Memory.Upload<ushort>(Enumerable.Repeat((ushort)0x7fff, rows * stride).ToArray(), "tensors");
                CudaProduct call = new(CudaStorage.AddressOf(x), rows, bias.Address, y.Address, stride, first, count);
                WidePlan plan = WideProducts.Plan(call, 2, [size]);
                plan = plan with { Whole = splits == 1 ? plan.Tiles : 0, Splits = splits };
                products.Multiply(packing, call, plan, packing.TensorFormat!, CudaNumber.BF16, CudaNumber.BF16);
                float[] all = [.. backend.Memory.Download<ushort>(y).Select(bits => BitConverter.UInt32BitsToSingle((uint)bits << 16))];
                Assert.Equal(rows * 8, all.Count(float.IsNaN));
                for (int i = 0; i < rows * count; i++)
                {
                    float made = all[(i / count * stride) + (i % count)], value = wanted[i] + biases[first + (i % count)];
                    Assert.True(Math.Abs(made - value) <= (0.004f * Math.Abs(value)) + (0.01f * largest), $"{plan}: {made} for {value} at {i}");
                }
            }
        }
    }

    [SkippableTheory]
    [InlineData(2, 2)]
    [InlineData(3, 1)]
    [InlineData(5, 0)]
    public void TheLastPartOfATileIsLongerAndAddsUpTheOthers(int splits, int lead)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        // 16 units and one that ends within.
        const int outs = 128, ins = 2112, rows = 256;
        using QuantizedWeight weight = PackingCheckData.Codebook(outs, ins, new Random(splits), 64);
        using CudaBackend backend = new(new EmulatedDevice(), DType.BF16);
        using CudaPacking packing = (CudaPacking)backend.Prepare(weight, ActivationType.F32);
        WideProducts products = new(backend.Memory);
        using Tensor host = KernelData.Random(new Shape(rows, ins), splits), rounded = host.To(DType.BF16), x = rounded.Upload(backend), exact = rounded.To(DType.F32), dense = weight.Dequantize();
        using CudaStorage y = backend.Memory.Upload<float>(new float[rows * outs], "tensors");
        CudaProduct call = new(CudaStorage.AddressOf(x), rows, 0, y.Address, outs, 0, outs);
        WidePlan plan = new(256, 1, 1, 0, splits);
        Assert.Equal(lead, plan.Call(packing, 0, null, 0).Lead);
        float[] wanted = Product(exact, dense, 0, outs);
        float largest = wanted.Max(Math.Abs);
        // Twice: the counters are as they were.
        for (int turn = 0; turn < 2; turn++)
        {
            products.Multiply(packing, call, plan, packing.TensorFormat!, CudaNumber.BF16, CudaNumber.F32);
            float[] made = backend.Memory.Download<float>(y);
            Assert.All(made.Zip(wanted), pair => Assert.InRange(pair.First, pair.Second - (0.01f * largest), pair.Second + (0.01f * largest)));
        }
    }

    [Theory]
    [InlineData(4, 's', 128, "codebook4")]
    [InlineData(4, 's', 32, "codebook4_small")]
    [InlineData(4, 'i', 128, "affine4")]
    [InlineData(3, 's', 128, "affine3")]
    public void CodesOf4BitsThatShareAnOffsetAreLevelsToTensorCores(int bits, char offsets, int group, string format)
    {
        using CudaBackend backend = new(new EmulatedDevice(), DType.BF16);
        using QuantizedWeight weight = PackingCheckData.Affine(40, 256, new Random(1), bits, group, offsets: offsets);
        using CudaPacking packing = (CudaPacking)backend.Prepare(weight, ActivationType.F32);
        Assert.Equal(format, packing.TensorFormat);
        Assert.Equal("affine" + bits, packing.Format);
        using QuantizedWeight back = packing.Unpack()!;
        using Tensor wanted = weight.Dequantize(), found = back.Dequantize();
        Assert.True(wanted.HostSpan<float>().SequenceEqual(found.HostSpan<float>()));
    }

    private static float[] Product(Tensor x, Tensor weight, int first, int count)
    {
        int rows = (int)x.Shape.Rows, columns = (int)x.Shape.Columns;
        ReadOnlySpan<float> xs = x.HostSpan<float>(), values = weight.HostSpan<float>();
        float[] y = new float[rows * count];
        for (int i = 0; i < y.Length; i++)
        {
            int of = i / count * columns, from = (first + (i % count)) * columns;
            for (int column = 0; column < columns; column++)
            {
                y[i] += xs[of + column] * values[from + column];
            }
        }

        return y;
    }
}
