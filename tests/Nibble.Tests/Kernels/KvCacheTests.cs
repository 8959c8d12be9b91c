using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Models;
using Nibble.Ops;
using Nibble.Tensors;
using static Nibble.Tests.Kernels.KernelData;

namespace Nibble.Tests.Kernels;

/// <summary>Caches of keys and values in fewer bits: attention is that over the rounded numbers.</summary>
public class KvCacheTests
{
    private const int Batch = 2, KvHeads = 2;

    public static TheoryData<string, KvCacheType, int, int> Cases
    {
        get
        {
            TheoryData<string, KvCacheType, int, int> cases = [];
            foreach (CpuVariant variant in CpuVariant.Compiled)
            {
                foreach (KvCacheType type in Enum.GetValues<KvCacheType>())
                {
                    cases.Add(variant.Name, type, 1, 64);
                    cases.Add(variant.Name, type, 30, 64);
                    cases.Add(variant.Name, type, 5, 21);
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void AttentionReadsTheRoundedNumbers(string name, KvCacheType type, int length, int dim)
    {
        using CpuBackend backend = new(CpuVariant.All.First(v => v.Name == name), threads: 2);
        int start = 110, all = start + length;
        using Tensor query = Random(new Shape(Batch * length, 4, dim), 1), output = Empty(query.Shape), expected = Empty(query.Shape);
        using Tensor k = Random(new Shape(Batch * all, KvHeads, dim), 2), v = Random(k.Shape, 3, scale: 3);
        using Tensor keys = Filled(backend, type, k, all, dim), values = Filled(backend, type, v, all, dim);
        using Tensor roundedKeys = Filled(backend, KvCacheType.F32, Rounded(k, type, dim), all, dim);
        using Tensor roundedValues = Filled(backend, KvCacheType.F32, Rounded(v, type, dim), all, dim);
        AttentionArguments arguments = new(query, keys, values, output, Batch, length, start, null, 1 / MathF.Sqrt(dim), 0);
        Attention.Forward(backend, arguments);
        Attention.Reference(arguments with { Keys = roundedKeys, Values = roundedValues, Output = expected });
        Close(output, expected, 2e-5f, $"{type} cache");
    }

    [Theory]
    [InlineData(KvCacheType.F32)]
    [InlineData(KvCacheType.Int8)]
    public void DecodingOverALongContextDoesNotDependOnTheNumberOfThreads(KvCacheType type)
    {
        const int Dim = 32, All = 1601;
        using Tensor query = Random(new Shape(Batch, 4, Dim), 1), k = Random(new Shape(Batch * All, KvHeads, Dim), 2), expected = Empty(query.Shape);
        foreach (int threads in new[] { 1, 2, 3, 16, 64 })
        {
            using CpuBackend backend = new(CpuVariant.Select(null), threads);
            using Tensor cache = Filled(backend, type, k, All, Dim), output = Empty(query.Shape);
            AttentionArguments arguments = new(query, cache, cache, output, Batch, 1, All - 1, null, 0.2f, 0);
            Attention.Forward(backend, threads == 1 ? arguments with { Output = expected } : arguments);
            Equal(threads == 1 ? expected : output, expected, $"{threads} threads");
        }
    }

    [Fact]
    public void ARowWithNaNGivesNaNAndAZeroRowZeros()
    {
        using CpuBackend backend = new();
        using Tensor x = Random(new Shape(2, 1, 16), 1), query = Random(new Shape(1, 1, 16), 2), output = Empty(query.Shape);
        x.HostSpan<float>()[3] = float.NaN;
        x.HostSpan<float>()[16..].Clear();
        using Tensor cache = Filled(backend, KvCacheType.Int8, x.Reshape(new Shape(2, 1, 16)), 2, 16, batch: 1, heads: 1);
        Attention.Forward(backend, new AttentionArguments(query, cache, cache, output, 1, 1, 1, Indices(1), 1, 0));
        Assert.All(output.HostSpan<float>().ToArray(), value => Assert.Equal(0, value));
        Attention.Forward(backend, new AttentionArguments(query, cache, cache, output, 1, 1, 1, null, 1, 0));
        Assert.All(output.HostSpan<float>().ToArray(), value => Assert.Equal(float.NaN, value));
    }

    private static Tensor Filled(CpuBackend backend, KvCacheType type, Tensor x, int length, int dim, int batch = Batch, int heads = KvHeads)
    {
        Tensor cache = Tensor.OnHost(new Shape(batch, heads, length + 3, type.Columns(dim)), type.Storage());
        Attention.Append(backend, x, cache, 0);
        return cache;
    }

    private static Tensor Rounded(Tensor x, KvCacheType type, int dim)
    {
        Tensor result = Empty(x.Shape);
        for (int row = 0; row < (int)x.Shape.Count / dim; row++)
        {
            Span<float> source = x.HostSpan<float>().Slice(row * dim, dim), target = result.HostSpan<float>().Slice(row * dim, dim);
            float largest = 0;
            foreach (float value in source)
            {
                largest = MathF.Max(largest, MathF.Abs(value));
            }

            for (int i = 0; i < dim; i++)
            {
                target[i] = type switch
                {
                    KvCacheType.F16 => (float)(Half)source[i],
                    KvCacheType.BF16 => BitConverter.UInt32BitsToSingle((uint)TensorConvert.F32ToBF16(source[i]) << 16),
                    KvCacheType.Int8 => MathF.Round(source[i] * (127 / largest)) * (largest / 127),
                    _ => source[i],
                };
            }
        }

        return result;
    }
}
