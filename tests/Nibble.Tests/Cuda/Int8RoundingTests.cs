using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Packings;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Cuda;

/// <summary>Rows on the grid of 8-bit integers in one launch: every code by its definition.</summary>
public class Int8RoundingTests
{
    private const float Threshold = 6;

    public static TheoryData<int, int, int, int, bool> Cases => new()
    {
        { 1, 8, 20, 0, false },
        { 11, 16, 333, 0, true },
        { 64, 64, 2100, 0, false },
        // Longer than a block's memory.
        { 9, 16, 4500, 0, true },
        { 70, 128, 200, 128, false },
        { 130, 256, 1000, 256, true },
    };

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public void CodesSumsAndOutliersAreThoseOfTheDefinition(int rows, int padded, int columns, int tileRows, bool reverse)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        EmulatedDevice device = new(reverse);
        using CudaBackend backend = new(new EmulatedDevice(reverse) { Facts = device.Facts with { SharedBytes = 28 << 10 } }, DType.BF16);
        using AffineWeight source = PackingCheckData.Affine(3, columns, new Random(1), 8, columns, offsets: 's');
        using CudaPacking weight = (CudaPacking)backend.PrepareInt8(source, Threshold), again = (CudaPacking)backend.PrepareInt8(source, Threshold);
        using Tensor x = KernelData.Random(new Shape(rows, columns), 2, scale: 2), up = KernelData.Random(x.Shape, 3, scale: 3), norm = KernelData.Random(new Shape(columns), 4, scale: 4);
        (x.HostSpan<float>()[^1], x.HostSpan<float>()[columns / 3]) = (-Threshold, 40);
        CudaInt8Rounding rounding = new(backend.Memory);
        Int8Product[] products = [new(weight, default), new(again, default)];
        using Tensor ups = up.Upload(backend), norms = norm.Upload(backend);
        foreach (string what in new[] { "plain", "normed", "gated" })
        {
            using Tensor own = x.Upload(backend), made = backend.Allocate(x.Shape, DType.F32);
            RowsToRound input = new(CudaStorage.AddressOf(own), rows);
            switch (what)
            {
                case "normed":
                    backend.Kernels.LayerNorm(own, norms, norms, 1e-5f, made);
                    input = input with { Norm = new InputNorm(NormKind.Layer, norms, norms, 1e-5f) };
                    break;
                case "gated":
                    backend.Kernels.SwiGlu(own, ups, made);
                    input = input with { Up = CudaStorage.AddressOf(ups) };
                    break;
                default:
                    backend.Gradients.Copy(own, made);
                    break;
            }

            float[] floats = new float[rows * columns];
            backend.Read<float>(made, floats);
            // The second time finds what the first left behind.
            for (int time = 0; time < 2; time++)
            {
                if (time > 0 && what == "gated")
                {
                    backend.Write<float>(x.HostSpan<float>(), own);
                }

                using RoundedRows rounded = rounding.Round(input, products, padded, tileRows);
                Check(backend, rounded, floats, rows, columns, tileRows, what);
            }
        }

        Assert.Equal(weight.OutlierShare, again.OutlierShare);
        Assert.True(weight.OutlierShare > 0);
    }

    private static void Check(CudaBackend backend, RoundedRows rounded, float[] x, int rows, int columns, int tileRows, string what)
    {
        int[] outliers = [.. Enumerable.Range(0, columns).Where(column => Enumerable.Range(0, rows).Any(row => Math.Abs(x[(row * columns) + column]) >= Threshold))];
        Assert.NotEmpty(outliers);
        Assert.Equal([outliers.Length, .. outliers], backend.Memory.Download<int>(rounded.Outliers!).Take(1 + outliers.Length));
        float[] absmax = backend.Memory.Download<float>(rounded.Absmax);
        int[] sums = backend.Memory.Download<int>(rounded.Sums);
        sbyte[] codes = backend.Memory.Download<sbyte>(rounded.Codes);
        HashSet<int> kept = [.. outliers];
        for (int row = 0; row < rounded.Padded; row++)
        {
            float[] own = row < rows ? x[(row * columns)..((row + 1) * columns)] : new float[columns];
            float largest = own.Where(value => Math.Abs(value) < Threshold).Select(Math.Abs).DefaultIfEmpty(0).Max(), inverse = largest > 0 ? 127 / largest : 0;
            Assert.True(row >= rows || absmax[row] == largest, $"{what}: row {row}");
            int sum = 0;
            for (int column = 0; column < rounded.Width; column++)
            {
                // What is multiplied by warpgroups loses the columns of other rows later.
                bool dropped = column >= columns || (tileRows == 0 ? kept.Contains(column) : Math.Abs(own[column]) >= Threshold);
                int code = dropped ? 0 : (int)MathF.Round(own[column] * inverse);
                Assert.True(code == codes[Place(row, column, (int)rounded.Width, tileRows)], $"{what}: row {row}, column {column}");
                sum += code;
            }

            Assert.Equal(sum, sums[row]);
        }

        Assert.All(x.Zip(Rows(backend, rounded, x.Length)), pair => Assert.Equal(pair.First, pair.Second));
    }

    private static float[] Rows(CudaBackend backend, RoundedRows rounded, int count)
    {
        float[] values = new float[count];
        unsafe
        {
            fixed (float* target = values)
            {
                backend.Memory.Device.Download(rounded.X, target, (nint)count * sizeof(float));
            }
        }

        return values;
    }

    // Stages of tiles of rows and 128 columns, pieces of 16 bytes at their place xor row mod 8; of 32 columns a lane of four owns eight, in two pieces.
    private static int Place(int row, int column, int width, int tileRows)
    {
        if (tileRows == 0)
        {
            return (row * width) + column;
        }

        int unit = column / 128, within = column % 128, lane = within % 32 / 8, piece = (within / 32 * 2) + (within % 8 / 4), r = row % tileRows;
        return ((((row / tileRows * (width / 128)) + unit) * tileRows) + r) * 128 + ((piece ^ (r & 7)) * 16) + (lane * 4) + (within % 4);
    }
}
