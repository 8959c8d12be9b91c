using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;
using Nibble.Ops;

namespace Nibble.Backends.Cpu.Gradients;

/// <summary>One step of AdamW with 8-bit moments; a part is a run of blocks.</summary>
internal unsafe struct AdamW8BitJob<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    private const int BlocksPerPart = 32;

    private readonly float* _values, _gradient, _firstScales, _secondScales;
    private readonly byte* _first, _second;
    private readonly nint _count;
    private readonly float _scale, _beta1, _beta2, _epsilon, _keep, _step;

    public AdamW8BitJob(in AdamW8BitArguments a)
    {
        _values = (float*)a.Values.HostPointer;
        _gradient = (float*)a.Gradient.HostPointer;
        _first = (byte*)a.First.HostPointer;
        _firstScales = (float*)a.FirstScales.HostPointer;
        _second = (byte*)a.Second.HostPointer;
        _secondScales = (float*)a.SecondScales.HostPointer;
        _count = a.Values.Shape.Count;
        double root = Math.Sqrt(1 - Math.Pow(a.Beta2, a.Step));
        (_scale, _beta1, _beta2) = (a.GradientScale, a.Beta1, a.Beta2);
        _epsilon = (float)(root * a.Epsilon);
        _step = (float)(a.LearningRate * root / (1 - Math.Pow(a.Beta1, a.Step)));
        _keep = (float)(1 - ((double)a.LearningRate * a.WeightDecay));
    }

    public readonly int Parts => Kernels.Parts.Count(Blocks, BlocksPerPart);

    private readonly nint Blocks => (_count + AdamW8BitArguments.BlockSize - 1) / AdamW8BitArguments.BlockSize;

    public readonly void Execute(int part)
    {
        float* first = stackalloc float[2 * AdamW8BitArguments.BlockSize];
        nint end = nint.Min(Blocks, ((nint)part + 1) * BlocksPerPart);
        for (nint block = (nint)part * BlocksPerPart; block < end; block++)
        {
            RunBlock(block, first, first + AdamW8BitArguments.BlockSize);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void RunBlock(nint block, float* first, float* second)
    {
        nint start = block * AdamW8BitArguments.BlockSize;
        int count = (int)nint.Min(AdamW8BitArguments.BlockSize, _count - start);
        float oldFirst = _firstScales[block], oldSecond = _secondScales[block], largestFirst = 0, largestSecond = 0;
        for (int i = 0; i < count; i++)
        {
            float slope = _gradient[start + i] * _scale;
            float mean = (DynamicMaps.Signed[_first[start + i]] * oldFirst * _beta1) + ((1 - _beta1) * slope);
            float square = (DynamicMaps.Unsigned[_second[start + i]] * oldSecond * _beta2) + ((1 - _beta2) * slope * slope);
            largestFirst = MathF.Max(largestFirst, MathF.Abs(mean));
            largestSecond = MathF.Max(largestSecond, square);
            (first[i], second[i]) = (mean, square);
            _values[start + i] = (_values[start + i] - (_step * (mean / (MathF.Sqrt(square) + _epsilon)))) * _keep;
        }

        _firstScales[block] = largestFirst;
        _secondScales[block] = largestSecond;
        EncodeSigned(first, count, largestFirst, _first + start);
        Encode(second, count, largestSecond, _second + start);
    }

    private static void EncodeSigned(float* values, int count, float largest, byte* codes)
    {
        float[] map = DynamicMaps.Signed;
        for (int i = 0; i < count; i++)
        {
            float share = largest > 0 ? values[i] / largest : 0;
            int code = Nearest(DynamicMaps.SignedBounds, share);
            // A mean keeps its sign: it would otherwise push nowhere, or the other way.
            codes[i] = (byte)(share < 0 && map[code] >= 0 ? code - 1 : share > 0 && map[code] < 0 ? code + 1 : code);
        }
    }

    private static void Encode(float* values, int count, float largest, byte* codes)
    {
        for (int i = 0; i < count; i++)
        {
            codes[i] = (byte)Nearest(DynamicMaps.UnsignedBounds, largest > 0 ? values[i] / largest : 0);
        }
    }

    /// <summary>How many of the 255 half-way points lie below a value: its code.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Nearest(float[] bounds, float value)
    {
        int code = 0;
        for (int step = 128; step > 0; step >>= 1)
        {
            code += bounds[code + step - 1] < value ? step : 0;
        }

        return code;
    }
}
