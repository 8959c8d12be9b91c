using System.Runtime.InteropServices;
using Nibble.Backends.Cuda.Driver;
using Nibble.Tensors;

namespace Nibble.Tests.Cuda;

/// <summary>A card that is this processor: memory of the host, kernels of <see cref="HostKernels"/>, products by their definition.</summary>
internal sealed unsafe class EmulatedDevice(bool reverse = false) : ICudaDevice
{
    private readonly HashSet<nint> _memory = [];
    private bool _recording;

    public CudaFacts Facts { get; init; } = new("emulated card", 9, 0, 4, 1 << 30, 12000, 227 << 10);

    public bool HasGroupProducts { get; init; } = true;

    /// <summary>How many products ended in which way.</summary>
    public Dictionary<GemmEnd, int> Ends { get; } = [];

    /// <summary>Blocks that are not given back yet.</summary>
    public int Blocks => _memory.Count;

    public nint TryAllocate(nint bytes)
    {
        // Memory of a card is not zero, and nothing may count on what it holds: NaN shows a read before a write.
        void* address = NativeMemory.AlignedAlloc((nuint)bytes, 256);
        NativeMemory.Fill(address, (nuint)bytes, 0xff);
        _memory.Add((nint)address);
        return (nint)address;
    }

    public void Free(nint address)
    {
        Assert.True(_memory.Remove(address), "memory given back twice");
        NativeMemory.AlignedFree((void*)address);
    }

    public (long Free, long Total) Memory() => (1 << 30, 1 << 30);

    public void Upload(void* source, nint destination, nint bytes) => Buffer.MemoryCopy(source, (void*)destination, bytes, bytes);

    public void Download(nint source, void* destination, nint bytes) => Buffer.MemoryCopy((void*)source, destination, bytes, bytes);

    public nint AllocatePinned(nint bytes) => (nint)NativeMemory.AllocZeroed((nuint)bytes);

    public void FreePinned(nint address) => NativeMemory.Free((void*)address);

    public void CopyIn(nint pinned, nint destination, nint bytes) => Buffer.MemoryCopy((void*)pinned, (void*)destination, bytes, bytes);

    public void CopyOut(nint source, nint pinned, nint bytes) => Buffer.MemoryCopy((void*)source, (void*)pinned, bytes, bytes);

    public void Copy(nint source, nint destination, nint bytes)
    {
        if (!_recording)
        {
            Buffer.MemoryCopy((void*)source, (void*)destination, bytes, bytes);
        }
    }

    // A card does nothing while it records.
    public void Clear(nint destination, nint bytes)
    {
        if (!_recording)
        {
            NativeMemory.Clear((void*)destination, (nuint)bytes);
        }
    }

    public void Launch(KernelName kernel, LaunchShape shape, ReadOnlySpan<KernelArgument> arguments)
    {
        Assert.True(shape.SharedBytes <= Facts.SharedBytes, $"{kernel.Name} asks for {shape.SharedBytes} bytes of shared memory");
        if (!_recording)
        {
            HostKernels.Launch(kernel, shape, arguments, reverse);
        }
    }

    // What fetch_rows of wgmma.cuh reads.
    public StageMap MapStages(nint matrix, nint rows, nint columns, int tileRows)
    {
        Assert.True(matrix % 16 == 0 && columns % 8 == 0, "what cuTensorMapEncodeTiled asks for");
        StageMap map = default;
        (map[0], map[1], map[2]) = ((ulong)matrix, (ulong)rows, (ulong)columns);
        return map;
    }

    /// <summary>False if products have no end of their own.</summary>
    public bool HasEnds { get; init; } = true;

    public bool Has(in GemmCall call) => HasEnds || call.End == GemmEnd.Plain;

    public void Multiply(in GemmCall call)
    {
        Assert.True(Has(call), "no algorithm for this product");
        if (_recording)
        {
            return;
        }

        Ends[call.End] = Ends.GetValueOrDefault(call.End) + 1;
        for (int i = 0; i < call.Count; i++)
        {
            int size = call.Type.Size(), result = call.Result.Size();
            MultiplyOne(call with
            {
                A = call.A + (nint)(i * call.StepA * size), B = call.B + (nint)(i * call.StepB * size), D = call.D + (nint)(i * call.StepD * result),
                C = call.C == 0 ? 0 : call.C + (nint)(i * call.StepD * result),
            });
        }
    }

    private static void MultiplyOne(in GemmCall call)
    {
        if (call.Double)
        {
            MultiplyDoubles(call);
            return;
        }

        for (long n = 0; n < call.N; n++)
        {
            for (long m = 0; m < call.M; m++)
            {
                double sum = call.Bias == 0 ? 0 : Value(call.Bias, call.Result, m);
                for (long k = 0; k < call.K; k++)
                {
                    sum += Value(call.A, call.Type, call.TransposeA ? k + (m * call.StrideA) : m + (k * call.StrideA))
                        * Value(call.B, call.Type, call.TransposeB ? n + (k * call.StrideB) : k + (n * call.StrideB));
                }

                long at = m + (n * call.StrideD);
                sum = call.Negative ? -sum : sum;
                if (call.Factors is var (alpha, beta))
                {
                    sum = (alpha * sum) + (beta == 0 ? 0 : beta * Value(call.C == 0 ? call.D : call.C, call.Result, at));
                }

                sum = call.End switch
                {
                    GemmEnd.Gelu => sum * Sigmoid(TwiceRoot * (sum + (Cubic * sum * sum * sum))),
                    GemmEnd.GeluSlope => sum * GeluSlope(Value(call.Aux, call.Result, at)),
                    _ => sum,
                };
                float result = (float)(call.Add && call.Result != DType.I32 ? Value(call.D, call.Result, at) + sum : sum);
                if (call.Result == DType.I32)
                {
                    ((int*)call.D)[at] = (int)((call.Add ? ((int*)call.D)[at] : 0) + sum);
                }
                else if (call.Result == DType.F32)
                {
                    ((float*)call.D)[at] = result;
                }
                else
                {
                    uint bits = BitConverter.SingleToUInt32Bits(result);
                    ((ushort*)call.D)[at] = (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
                }
            }
        }
    }

    // GELU by tanh, of which cuBLASLt speaks, as x·σ(2√(2/π)(x + 0.044715x³)), and its derivative.
    private static readonly double TwiceRoot = 2 * Math.Sqrt(2 / Math.PI);

    private const double Cubic = 0.044715;

    private static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

    private static double GeluSlope(double x)
    {
        double s = Sigmoid(TwiceRoot * (x + (Cubic * x * x * x)));
        return s + (x * s * (1 - s) * TwiceRoot * (1 + (3 * Cubic * x * x)));
    }

    /// <summary>True if <see cref="Record"/> gives work, which queues the same again; else it can't.</summary>
    public bool Records { get; init; }

    /// <summary>How often work was recorded.</summary>
    public int Recordings { get; private set; }

    public RecordedWork? Record(Action queue)
    {
        if (!Records)
        {
            return null;
        }

        Recordings++;
        _recording = true;
        queue();
        _recording = false;
        return new RecordedWork(queue, new MemoryStream());
    }

    public void Synchronize()
    {
    }

    public void Dispose()
    {
        foreach (nint address in _memory.ToArray())
        {
            Free(address);
        }
    }

    private static void MultiplyDoubles(in GemmCall call)
    {
        double* a = (double*)call.A, b = (double*)call.B, d = (double*)call.D;
        for (long n = 0; n < call.N; n++)
        {
            for (long m = 0; m < call.M; m++)
            {
                double sum = 0;
                for (long k = 0; k < call.K; k++)
                {
                    sum += a[call.TransposeA ? k + (m * call.StrideA) : m + (k * call.StrideA)] * b[call.TransposeB ? n + (k * call.StrideB) : k + (n * call.StrideB)];
                }

                sum = call.Negative ? -sum : sum;
                d[m + (n * call.StrideD)] = call.Add ? d[m + (n * call.StrideD)] + sum : sum;
            }
        }
    }

    private static double Value(nint numbers, DType type, long index) => type == DType.F32
        ? ((float*)numbers)[index]
        : type == DType.I8 ? ((sbyte*)numbers)[index] : BitConverter.UInt32BitsToSingle((uint)((ushort*)numbers)[index] << 16);
}
