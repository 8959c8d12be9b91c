using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>Cross-entropy of a row of logits and, in its place, the gradient: (softmax − one-hot)·scale.</summary>
internal unsafe struct CrossEntropyJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* Logits, Losses;
    public int* Targets;
    public nint Rows, Columns;
    public float Scale;

    public readonly int Parts => Kernels.Parts.Count(Rows, Kernels.Parts.RowsPerPart(Columns));

    public readonly void Execute(int part)
    {
        nint perPart = Kernels.Parts.RowsPerPart(Columns);
        nint end = nint.Min(Rows, (part + 1) * perPart);
        for (nint row = part * perPart; row < end; row++)
        {
            float* logits = Logits + (row * Columns);
            int target = Targets[row];
            if (target < 0)
            {
                Losses[row] = 0;
                new Span<float>(logits, (int)Columns).Clear();
                continue;
            }

            float largest = Reduce<S, V>.Largest(logits, Columns), own = logits[target];
            float sum = Reduce<S, V>.ExpAndSum(logits, largest, Columns);
            Losses[row] = (float)(Math.Log(sum) + largest - own);
            Reduce<S, V>.Scale(logits, Scale / sum, Columns);
            logits[target] -= Scale;
        }
    }
}

/// <summary>One step of AdamW over runs of elements.</summary>
internal unsafe struct AdamWJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private readonly float* _values, _gradient, _first, _second;
    private readonly nint _count;
    private readonly float _scale, _beta1, _beta2, _epsilon, _keep, _step, _root;

    public AdamWJob(in AdamWArguments a)
    {
        _values = (float*)a.Values.HostPointer;
        _gradient = (float*)a.Gradient.HostPointer;
        _first = (float*)a.First.HostPointer;
        _second = (float*)a.Second.HostPointer;
        _count = a.Values.Shape.Count;
        (_scale, _beta1, _beta2, _epsilon) = (a.GradientScale, a.Beta1, a.Beta2, a.Epsilon);
        _keep = (float)(1 - ((double)a.LearningRate * a.WeightDecay));
        _step = (float)(a.LearningRate / (1 - Math.Pow(a.Beta1, a.Step)));
        _root = (float)Math.Sqrt(1 - Math.Pow(a.Beta2, a.Step));
    }

    public readonly int Parts => Kernels.Parts.Count(_count, Kernels.Parts.ElementsPerPart);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Execute(int part)
    {
        nint i = part * Kernels.Parts.ElementsPerPart;
        nint end = nint.Min(_count, i + Kernels.Parts.ElementsPerPart);
        for (; i <= end - S.Count; i += S.Count)
        {
            Update<S, V>(i);
        }

        for (; i < end; i++)
        {
            Update<Lanes1, float>(i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void Update<L, W>(nint i)
        where L : struct, ILanes<W>
        where W : unmanaged
    {
        W gradient = L.Multiply(L.Load(_gradient + i), L.Set(_scale));
        W first = L.MultiplyAdd(L.Subtract(gradient, L.Load(_first + i)), L.Set(1 - _beta1), L.Load(_first + i));
        W second = L.MultiplyAdd(L.Multiply(gradient, gradient), L.Set(1 - _beta2), L.Multiply(L.Load(_second + i), L.Set(_beta2)));
        L.Store(first, _first + i);
        L.Store(second, _second + i);
        W divisor = L.Add(L.Divide(L.Sqrt(second), L.Set(_root)), L.Set(_epsilon));
        W value = L.Multiply(L.Load(_values + i), L.Set(_keep));
        L.Store(L.Subtract(value, L.Multiply(L.Set(_step), L.Divide(first, divisor))), _values + i);
    }
}

/// <summary>Σ x² of each run of elements.</summary>
internal unsafe struct SumOfSquaresJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* X;
    public double* Sums;
    public nint Count;

    public readonly int Parts => Kernels.Parts.Count(Count, Kernels.Parts.ElementsPerPart);

    public readonly void Execute(int part)
    {
        nint first = part * Kernels.Parts.ElementsPerPart;
        Sums[part] = Reduce<S, V>.SumOfSquares(X + first, 0, nint.Min(Kernels.Parts.ElementsPerPart, Count - first));
    }
}
