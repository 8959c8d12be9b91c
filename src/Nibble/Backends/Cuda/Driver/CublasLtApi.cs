using System.Runtime.InteropServices;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>An algorithm that cuBLASLt proposes: <c>cublasLtMatmulHeuristicResult_t</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct CublasHeuristic
{
    public fixed ulong Algorithm[8];
    public nuint WorkspaceBytes;
    public int State;
    public float Waves;
    public fixed int Reserved[4];
}

/// <summary>cuBLASLt; every function returns a cublasStatus_t. Constants are those of cublasLt.h 12 and 13.</summary>
internal static unsafe partial class CublasLtApi
{
    public const int ComputeF32 = 68;
    public const int ComputeF64 = 70;
    public const int ComputeI32 = 72;
    public const int TypeF32 = 0;
    public const int TypeF64 = 1;
    public const int TypeI8 = 3;
    public const int TypeI32 = 10;
    public const int TypeBF16 = 14;
    public const int DescTransposeA = 3;
    public const int DescTransposeB = 4;
    public const int DescEpilogue = 7;
    public const int DescBiasPointer = 8;
    public const int DescAuxPointer = 11;
    public const int DescAuxStride = 12;
    public const int EpiloguePlain = 1;
    public const int EpilogueBias = 4;
    public const int EpilogueGelu = 32;
    public const int EpilogueGeluSlope = 64 | 128;
    public const int LayoutBatchCount = 5;
    public const int LayoutBatchStep = 6;
    public const int PreferenceWorkspaceBytes = 1;
    public const int PreferenceAlignmentA = 5;
    private const string Library = "nibble-cublaslt";

    [LibraryImport(Library)]
    public static partial int cublasLtCreate(out nint handle);

    [LibraryImport(Library)]
    public static partial int cublasLtDestroy(nint handle);

    [LibraryImport(Library)]
    public static partial nuint cublasLtGetVersion();

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescCreate(out nint description, int computeType, int scaleType);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescDestroy(nint description);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescSetAttribute(nint description, int attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasLtMatrixLayoutCreate(out nint layout, int type, ulong rows, ulong columns, long stride);

    [LibraryImport(Library)]
    public static partial int cublasLtMatrixLayoutSetAttribute(nint layout, int attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasLtMatrixLayoutDestroy(nint layout);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceCreate(out nint preference);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceDestroy(nint preference);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceSetAttribute(nint preference, int attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulAlgoGetHeuristic(
        nint handle, nint description, nint a, nint b, nint c, nint d, nint preference, int requested, CublasHeuristic* results, out int found);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmul(
        nint handle, nint description, void* alpha, nint a, nint layoutA, nint b, nint layoutB, void* beta, nint c, nint layoutC, nint d, nint layoutD,
        CublasHeuristic* algorithm, nint workspace, nuint workspaceBytes, nint stream);
}
