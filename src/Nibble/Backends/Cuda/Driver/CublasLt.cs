using System.Numerics;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>Matrix products by cuBLASLt: sums in F32, TF32 off; the plan of a shape is made once.</summary>
internal sealed unsafe class CublasLt : IDisposable
{
    /// <summary>Memory that algorithms may use.</summary>
    public const int WorkspaceBytes = 32 << 20;

    private readonly Dictionary<PlanKey, Plan> _plans = [];
    private readonly nint _handle;

    public CublasLt()
    {
        if (CudaLibraries.TryLoad(CudaLibraries.CublasLt) == 0)
        {
            Throw.NotFound(
                "cuBLASLt was not found: products of more than 8 rows need it",
                $"looked for {string.Join(", ", CudaLibraries.CublasLt.Names)}",
                $"install CUDA 12 or 13, or the Python wheel nvidia-cublas; {CudaLibraries.FoldersVariable} names its folder");
        }

        CudaErrors.CheckCublas(CublasLtApi.cublasLtCreate(out _handle), "cublasLtCreate");
    }

    /// <summary>True if there is an algorithm for a product.</summary>
    public bool Has(in GemmCall call) => PlanOf(call).HasAlgorithm;

    /// <summary>Queues a product.</summary>
    public void Multiply(in GemmCall call, nint workspace, nint stream)
    {
        Plan plan = PlanOf(call);
        CudaErrors.CheckCublas(plan.HasAlgorithm ? 0 : CudaErrors.NoAlgorithm, $"cublasLtMatmulAlgoGetHeuristic of {call.M} × {call.N} × {call.K}");
        plan.Run(_handle, call, workspace, stream);
    }

    public void Dispose()
    {
        foreach (Plan plan in _plans.Values)
        {
            plan.Dispose();
        }

        _plans.Clear();
        CublasLtApi.cublasLtDestroy(_handle);
    }

    private Plan PlanOf(in GemmCall call)
    {
        PlanKey key = new(
            call.M, call.N, call.K, call.TransposeA, call.TransposeB, call.StrideA, call.StrideB, call.StrideD, call.Type, call.Result, call.Bias != 0, call.Double,
            Alignment(call.A, call.StepA, call.Type), Alignment(call.B, call.StepB, call.Type), Alignment(call.D | call.C, call.StepD, call.Result), call.Count, call.StepA, call.StepB, call.StepD,
            call.End, Alignment(call.Aux, 0, call.Result));
        if (!_plans.TryGetValue(key, out Plan? plan))
        {
            plan = new Plan(_handle, key, call.Aux);
            _plans.Add(key, plan);
        }

        return plan;
    }

    // Of every matrix of a batch: their distances matter as the first address does.
    private static int Alignment(nint address, long step, DType type) => Math.Min(256, 1 << Math.Min(8, BitOperations.TrailingZeroCount(address | (nint)(step * type.Size()))));

    private readonly record struct PlanKey(
        long M, long N, long K, bool TransposeA, bool TransposeB, long StrideA, long StrideB, long StrideD, DType Type, DType Result, bool Biased, bool Double, int AlignA, int AlignB, int AlignD,
        int Count, long StepA, long StepB, long StepD, GemmEnd End, int AlignAux);

    private sealed class Plan : IDisposable
    {
        private readonly nint _description, _a, _b, _d;
        private CublasHeuristic _algorithm;

        public Plan(nint handle, PlanKey key, nint aux)
        {
            int type = key.Double ? CublasLtApi.TypeF64 : TypeOf(key.Type), result = key.Double ? CublasLtApi.TypeF64 : TypeOf(key.Result);
            bool whole = key.Result == DType.I32;
            int compute = key.Double ? CublasLtApi.ComputeF64 : whole ? CublasLtApi.ComputeI32 : CublasLtApi.ComputeF32;
            CudaErrors.CheckCublas(
                CublasLtApi.cublasLtMatmulDescCreate(out _description, compute, key.Double ? CublasLtApi.TypeF64 : whole ? CublasLtApi.TypeI32 : CublasLtApi.TypeF32),
                "cublasLtMatmulDescCreate");
            Set(CublasLtApi.DescTransposeA, key.TransposeA ? 1 : 0);
            Set(CublasLtApi.DescTransposeB, key.TransposeB ? 1 : 0);
            int end = key.End switch { GemmEnd.Gelu => CublasLtApi.EpilogueGelu, GemmEnd.GeluSlope => CublasLtApi.EpilogueGeluSlope, _ => 0 } | (key.Biased ? CublasLtApi.EpilogueBias : 0);
            Set(CublasLtApi.DescEpilogue, end == 0 ? CublasLtApi.EpiloguePlain : end);
            if (key.End == GemmEnd.GeluSlope)
            {
                // The choice of an algorithm looks at its alignment.
                Point(CublasLtApi.DescAuxPointer, aux);
                Point(CublasLtApi.DescAuxStride, (nint)key.StrideD);
            }

            _a = Layout(type, key.TransposeA ? (key.K, key.M) : (key.M, key.K), key.StrideA, key.Count, key.StepA);
            _b = Layout(type, key.TransposeB ? (key.N, key.K) : (key.K, key.N), key.StrideB, key.Count, key.StepB);
            _d = Layout(result, (key.M, key.N), key.StrideD, key.Count, key.StepD);
            HasAlgorithm = Choose(handle, key);
        }

        public bool HasAlgorithm { get; }

        public void Run(nint handle, in GemmCall call, nint workspace, nint stream)
        {
            if (call.Bias != 0)
            {
                Point(CublasLtApi.DescBiasPointer, call.Bias);
            }

            if (call.End == GemmEnd.GeluSlope)
            {
                Point(CublasLtApi.DescAuxPointer, call.Aux);
            }

            // Factors are of the type of the sums.
            int sign = call.Negative ? -1 : 1, one = call.Result == DType.I32 ? 1 : BitConverter.SingleToInt32Bits(1);
            int alpha = call.Result == DType.I32 ? sign : BitConverter.SingleToInt32Bits(sign), beta = call.Add ? one : 0;
            double alphaDouble = sign, betaDouble = call.Add ? 1 : 0;
            if (call.Factors is var (ownAlpha, ownBeta))
            {
                (alpha, beta) = (BitConverter.SingleToInt32Bits(ownAlpha), BitConverter.SingleToInt32Bits(ownBeta));
            }

            nint c = call.C == 0 ? call.D : call.C;
            fixed (CublasHeuristic* algorithm = &_algorithm)
            {
                CudaErrors.CheckCublas(
                    CublasLtApi.cublasLtMatmul(
                        handle, _description, call.Double ? &alphaDouble : &alpha, call.A, _a, call.B, _b, call.Double ? &betaDouble : &beta, c, _d, call.D, _d, algorithm,
                        workspace, WorkspaceBytes, stream),
                    "cublasLtMatmul");
            }
        }

        public void Dispose()
        {
            CublasLtApi.cublasLtMatrixLayoutDestroy(_a);
            CublasLtApi.cublasLtMatrixLayoutDestroy(_b);
            CublasLtApi.cublasLtMatrixLayoutDestroy(_d);
            CublasLtApi.cublasLtMatmulDescDestroy(_description);
        }

        private static int TypeOf(DType type) => type switch
        {
            DType.BF16 => CublasLtApi.TypeBF16,
            DType.I8 => CublasLtApi.TypeI8,
            DType.I32 => CublasLtApi.TypeI32,
            _ => CublasLtApi.TypeF32,
        };

        private static nint Layout(int type, (long Rows, long Columns) shape, long stride, int count, long step)
        {
            CudaErrors.CheckCublas(CublasLtApi.cublasLtMatrixLayoutCreate(out nint layout, type, (ulong)shape.Rows, (ulong)shape.Columns, stride), "cublasLtMatrixLayoutCreate");
            if (count > 1)
            {
                CudaErrors.CheckCublas(CublasLtApi.cublasLtMatrixLayoutSetAttribute(layout, CublasLtApi.LayoutBatchCount, &count, sizeof(int)), "cublasLtMatrixLayoutSetAttribute");
                CudaErrors.CheckCublas(CublasLtApi.cublasLtMatrixLayoutSetAttribute(layout, CublasLtApi.LayoutBatchStep, &step, sizeof(long)), "cublasLtMatrixLayoutSetAttribute");
            }

            return layout;
        }

        private void Set(int attribute, int value) =>
            CudaErrors.CheckCublas(CublasLtApi.cublasLtMatmulDescSetAttribute(_description, attribute, &value, sizeof(int)), "cublasLtMatmulDescSetAttribute");

        private void Point(int attribute, nint value) =>
            CudaErrors.CheckCublas(CublasLtApi.cublasLtMatmulDescSetAttribute(_description, attribute, &value, (nuint)sizeof(nint)), "cublasLtMatmulDescSetAttribute");

        private bool Choose(nint handle, PlanKey key)
        {
            CudaErrors.CheckCublas(CublasLtApi.cublasLtMatmulPreferenceCreate(out nint preference), "cublasLtMatmulPreferenceCreate");
            try
            {
                ulong workspace = WorkspaceBytes;
                CudaErrors.CheckCublas(
                    CublasLtApi.cublasLtMatmulPreferenceSetAttribute(preference, CublasLtApi.PreferenceWorkspaceBytes, &workspace, sizeof(ulong)), "cublasLtMatmulPreferenceSetAttribute");
                uint[] alignments = [(uint)key.AlignA, (uint)key.AlignB, (uint)key.AlignD, (uint)key.AlignD];
                for (int i = 0; i < alignments.Length; i++)
                {
                    uint alignment = alignments[i];
                    CudaErrors.CheckCublas(
                        CublasLtApi.cublasLtMatmulPreferenceSetAttribute(preference, CublasLtApi.PreferenceAlignmentA + i, &alignment, sizeof(uint)), "cublasLtMatmulPreferenceSetAttribute");
                }

                CublasHeuristic found;
                int code = CublasLtApi.cublasLtMatmulAlgoGetHeuristic(handle, _description, _a, _b, _d, _d, preference, 1, &found, out int count);
                code = code == 0 ? count == 0 ? CudaErrors.NoAlgorithm : found.State : code;
                CudaErrors.CheckCublas(code == CudaErrors.NoAlgorithm ? 0 : code, $"cublasLtMatmulAlgoGetHeuristic of {key.M} × {key.N} × {key.K}");
                _algorithm = found;
                return code == 0;
            }
            finally
            {
                CublasLtApi.cublasLtMatmulPreferenceDestroy(preference);
            }
        }
    }
}
