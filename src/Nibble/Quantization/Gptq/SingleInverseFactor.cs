using System.Numerics;
using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu;

namespace Nibble.Quantization.Gptq;

/// <summary>
/// The inverse of a Cholesky factor in single precision, at the speed of the matrix product: A = UᵀU, and U⁻¹ in the place of A's upper
/// triangle. One block of rows after another is factored; then a single update of what stands right of it serves both the rows
/// below, which are still to be factored, and those above, in which the inverse grows (Gauss and Jordan's elimination, in blocks).
/// </summary>
internal sealed unsafe class SingleInverseFactor
{
    // Depth of the updates: a whole block of the product's depth, so each element of A is visited once per 256 steps.
    private const int Block = 256;

    // A pivot is what is left of a diagonal element: below this share, fewer than three of its digits are right (1,000 · 2⁻²⁴).
    private const float LeastShare = 6e-5f;

    private readonly float* _a, _row, _negated, _left, _diagonal;
    private readonly int _n;
    private readonly CpuVariant _variant;
    private readonly CpuThreads _threads;

    private SingleInverseFactor(float* a, int n, float* scratch, CpuVariant variant, CpuThreads threads)
    {
        (_n, _variant, _threads) = (n, variant, threads);
        nint strip = (nint)Block * n;
        _a = a;
        _row = scratch;
        _negated = _row + strip;
        _left = _negated + strip;
        _diagonal = _left + strip;
    }

    /// <summary>
    /// Overwrites the upper triangle of symmetric <paramref name="values"/> <c>[n, n]</c>; what stands below it is undefined then.
    /// False if A is not positive definite or too near to that for single precision.
    /// </summary>
    public static bool TryCompute(float[] values, int n, CpuVariant variant, CpuThreads threads)
    {
        using CpuScratch.Lease scratch = CpuScratch.Rent(((3 * (nint)Block * n) + (Block * Block)) * sizeof(float));
        fixed (float* a = values)
        {
            return new SingleInverseFactor(a, n, (float*)scratch.Pointer, variant, threads).TryCompute();
        }
    }

    private bool TryCompute()
    {
        float[] least = new float[_n];
        for (int i = 0; i < _n; i++)
        {
            least[i] = LeastShare * _a[((nint)i * _n) + i];
        }

        for (int start = 0; start < _n; start += Block)
        {
            int end = Math.Min(_n, start + Block);
            if (!TryFactorDiagonal(start, end - start, least))
            {
                return false;
            }

            InvertDiagonal(start, end - start);
            FinishColumns(start, end - start);
            Update(start, end);
        }

        return true;
    }

    private float* At(int row, int column) => _a + ((nint)row * _n) + column;

    /// <summary>A[block, block] = UᵀU in place, row after row.</summary>
    private bool TryFactorDiagonal(int start, int width, float[] least)
    {
        for (int k = 0; k < width; k++)
        {
            float* line = At(start + k, start);
            if (!(line[k] > least[start + k]) || float.IsInfinity(line[k]))
            {
                return false;
            }

            float scale = 1 / MathF.Sqrt(line[k]);
            for (int j = k; j < width; j++)
            {
                line[j] *= scale;
            }

            for (int i = k + 1; i < width; i++)
            {
                AddScaled(line + i, -line[i], At(start + i, start + i), width - i);
            }
        }

        return true;
    }

    /// <summary>D = U[block, block]⁻¹, upper triangular, from the last row back.</summary>
    private void InvertDiagonal(int start, int width)
    {
        new Span<float>(_diagonal, width * width).Clear();
        for (int i = width - 1; i >= 0; i--)
        {
            float* target = _diagonal + (i * width), line = At(start + i, start);
            for (int k = i + 1; k < width; k++)
            {
                AddScaled(_diagonal + (k * width) + k, -line[k], target + k, width - k);
            }

            float scale = 1 / line[i];
            target[i] = 1;
            for (int j = i; j < width; j++)
            {
                target[j] *= scale;
            }
        }
    }

    /// <summary>The block's columns of the inverse are now known: −(what the rows above have gathered)·D, and D itself.</summary>
    private void FinishColumns(int start, int width)
    {
        if (start > 0)
        {
            _variant.Multiply(_threads, new() { A = At(0, start), ARow = _n, AStep = 1, B = _diagonal, BRow = width, C = _left, CRow = width, Rows = start, Columns = width, Depth = width, Overwrite = true });
        }

        for (int row = 0; row < start; row++)
        {
            Negate(_left + ((nint)row * width), At(row, start), width);
        }

        for (int row = 0; row < width; row++)
        {
            new Span<float>(_diagonal + (row * width), width).CopyTo(new Span<float>(At(start + row, start), width));
        }
    }

    /// <summary>Everything right of the block: rows above gather, the block's own rows start to, rows below lose what is explained.</summary>
    private void Update(int start, int end)
    {
        int width = end - start, rest = _n - end;
        if (rest == 0)
        {
            return;
        }

        // U[block, rest] = Dᵀ·A[block, rest].
        _variant.Multiply(_threads, new() { A = _diagonal, ARow = 1, AStep = width, B = At(start, end), BRow = _n, C = _row, CRow = rest, Rows = width, Columns = rest, Depth = width, Overwrite = true });
        Negate(_row, _negated, (nint)width * rest);
        StridedProduct update = new() { B = _row, BRow = rest, CRow = _n, Columns = rest, Depth = width };
        _variant.Multiply(_threads, update with { A = At(0, start), ARow = _n, AStep = 1, C = At(0, end), Rows = start });
        _variant.Multiply(_threads, update with { A = _diagonal, ARow = width, AStep = 1, C = At(start, end), Rows = width, Overwrite = true });
        _variant.Multiply(_threads, update with { A = _negated, ARow = 1, AStep = rest, C = At(end, end), Rows = rest, UpperOnly = true });
    }

    /// <summary>target += source · factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddScaled(float* source, float factor, float* target, int count)
    {
        Vector<float> scale = new(factor);
        int i = 0;
        for (; i <= count - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector.FusedMultiplyAdd(scale, Vector.Load(source + i), Vector.Load(target + i)).Store(target + i);
        }

        for (; i < count; i++)
        {
            target[i] = MathF.FusedMultiplyAdd(factor, source[i], target[i]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Negate(float* source, float* target, nint count)
    {
        nint i = 0;
        for (; i <= count - Vector<float>.Count; i += Vector<float>.Count)
        {
            (-Vector.Load(source + i)).Store(target + i);
        }

        for (; i < count; i++)
        {
            target[i] = -source[i];
        }
    }
}
