using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tests.Kernels;

/// <summary>
/// One comparison of a kernel with its reference, free of the test framework: the tests run it, and so does the bench's
/// verify-kernels on machines with other instruction sets.
/// </summary>
internal sealed record KernelCheck(string Name, Action<IBackend> Run)
{
    public override string ToString() => Name;
}

/// <summary>Test data and comparisons for <see cref="KernelCheck"/>.</summary>
internal static class KernelData
{
    /// <summary>True for a program under a tool that watches every access (compute-sanitizer's racecheck): long checks take a few of their sizes.</summary>
    public static bool Small { get; set; }

    /// <summary>Sizes of a check, those at <paramref name="few"/> where only a few are wanted.</summary>
    public static T[] Sizes<T>(T[] all, params int[] few) => Small ? [.. few.Select(place => all[place])] : all;

    /// <summary>A float tensor of reproducible numbers around 0 that starts <paramref name="skip"/> elements into its memory.</summary>
    public static Tensor Random(Shape shape, int seed, float scale = 1, int skip = 0)
    {
        Tensor tensor = Empty(shape, DType.F32, skip);
        Random random = new(seed);
        foreach (ref float value in tensor.HostSpan<float>())
        {
            value = scale * (float)((2 * random.NextDouble()) - 1);
        }

        return tensor;
    }

    /// <summary>A tensor that is not aligned to a vector if <paramref name="skip"/> is not 0.</summary>
    public static Tensor Empty(Shape shape, DType dtype = DType.F32, int skip = 0) =>
        new(shape, dtype, new NativeStorage((shape.Count + skip) * dtype.Size()), skip * dtype.Size());

    /// <summary>The transposed matrix, F32.</summary>
    public static Tensor Transposed(Tensor source)
    {
        (nint rows, nint columns) = (source.Shape[0], source.Shape[1]);
        Tensor result = Tensor.OnHost(new Shape(columns, rows), DType.F32);
        Span<float> from = source.HostSpan<float>(), to = result.HostSpan<float>();
        for (int i = 0; i < from.Length; i++)
        {
            to[(int)((i % columns * rows) + (i / columns))] = from[i];
        }

        return result;
    }

    /// <summary>A vector of I32.</summary>
    public static Tensor Indices(params int[] values) => Tensor.From<int>(new Shape(values.Length), DType.I32, values);

    /// <summary>The same values rounded to <paramref name="dtype"/>, in it.</summary>
    public static Tensor Convert(Tensor source, DType dtype)
    {
        Tensor result = Tensor.OnHost(source.Shape, dtype);
        Span<float> values = source.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            switch (dtype)
            {
                case DType.F32:
                    result.HostSpan<float>()[i] = values[i];
                    break;
                case DType.F16:
                    result.HostSpan<Half>()[i] = (Half)values[i];
                    break;
                default:
                    // Cutting is a rounding too, and keeps NaN and infinities.
                    result.HostSpan<ushort>()[i] = (ushort)(BitConverter.SingleToUInt32Bits(values[i]) >> 16);
                    break;
            }
        }

        return result;
    }

    /// <summary>The values of a dense tensor as F32.</summary>
    public static Tensor Widen(Tensor source)
    {
        Tensor result = Tensor.OnHost(source.Shape, DType.F32);
        Span<float> values = result.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = source.DType switch
            {
                DType.F32 => source.HostSpan<float>()[i],
                DType.F16 => (float)source.HostSpan<Half>()[i],
                _ => BitConverter.UInt32BitsToSingle((uint)source.HostSpan<ushort>()[i] << 16),
            };
        }

        return result;
    }

    /// <summary>Throws unless both tensors agree within <paramref name="tolerance"/>·(1 + |expected|); NaN and infinities must be the same.</summary>
    public static void Close(Tensor actual, Tensor expected, float tolerance, string what)
    {
        Span<float> a = actual.HostSpan<float>(), e = expected.HostSpan<float>();
        for (int i = 0; i < e.Length; i++)
        {
            bool same = float.IsFinite(e[i])
                ? MathF.Abs(a[i] - e[i]) <= tolerance * (1 + MathF.Abs(e[i]))
                : a[i].Equals(e[i]);
            if (!same)
            {
                throw new InvalidOperationException($"{what}: element {i} of {expected.Shape} is {a[i]:R}, expected {e[i]:R} within {tolerance:R}");
            }
        }
    }

    /// <summary>
    /// Throws unless both tensors, results of the same product in two ways, are equal: bit for bit on the processor, within
    /// <paramref name="tolerance"/> on a card, where one row and many go through different sums.
    /// </summary>
    public static void SameProduct(IBackend backend, Tensor actual, Tensor expected, float tolerance, string what)
    {
        if (backend.Name == "cpu")
        {
            Equal(actual, expected, what);
        }
        else
        {
            Close(actual, expected, tolerance, what);
        }
    }

    /// <summary>Throws unless both tensors are equal bit for bit.</summary>
    public static void Equal(Tensor actual, Tensor expected, string what)
    {
        Span<int> a = System.Runtime.InteropServices.MemoryMarshal.Cast<float, int>(actual.HostSpan<float>());
        Span<int> e = System.Runtime.InteropServices.MemoryMarshal.Cast<float, int>(expected.HostSpan<float>());
        int length = a.CommonPrefixLength(e);
        if (length != e.Length)
        {
            throw new InvalidOperationException(
                $"{what}: element {length} of {expected.Shape} is {actual.HostSpan<float>()[length]:R}, expected the bits of {expected.HostSpan<float>()[length]:R}");
        }
    }
}
