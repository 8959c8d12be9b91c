using System.Runtime.InteropServices;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>cuDNN's graph API (cudnn_graph.h, version 9); functions return a cudnnStatus_t.</summary>
internal static unsafe partial class CudnnApi
{
    // cudnnBackendDescriptorType_t.
    public const int Pointwise = 0, EngineConfig = 3, EngineHeuristic = 4, ExecutionPlan = 5, PointwiseOperation = 13, OperationGraph = 15, VariantPack = 16;
    public const int Tensor = 17, Matmul = 18, MatmulOperation = 19, Reduction = 21, ReductionOperation = 22, ReshapeOperation = 31;

    // cudnnBackendAttributeType_t.
    public const int TypeHandle = 0, TypeDataType = 1, TypeBoolean = 2, TypeInt64 = 3, TypeFloat = 4, TypeAddress = 6, TypeHeuristicMode = 8;
    public const int TypePointwiseMode = 14, TypeDescriptor = 15, TypeReductionOperator = 18;

    // cudnnBackendAttributeName_t.
    public const int PointwiseMode = 0, PointwisePrecision = 1, PointwiseAxis = 9;
    public const int HeuristicMode = 200, HeuristicGraph = 201, HeuristicResults = 202;
    public const int PlanHandle = 400, PlanConfig = 401, PlanWorkspaceBytes = 402;
    public const int PointwiseDescription = 750, PointwiseX = 751, PointwiseB = 752, PointwiseY = 753, PointwiseT = 758;
    public const int GraphHandle = 800, GraphOperations = 801;
    public const int TensorAlignment = 900, TensorDataType = 901, TensorDimensions = 902, TensorStrides = 903, TensorId = 906, TensorIsVirtual = 907, TensorIsValue = 908;
    public const int PackIds = 1000, PackAddresses = 1001, PackWorkspace = 1003;
    public const int MatmulPrecision = 1500, MatmulA = 1520, MatmulB = 1521, MatmulC = 1522, MatmulDescription = 1523;
    public const int ReductionOperator = 1600, ReductionPrecision = 1601, ReductionX = 1610, ReductionY = 1611, ReductionDescription = 1612;
    public const int ReshapeX = 2200, ReshapeY = 2201;

    // cudnnDataType_t, cudnnPointwiseMode_t, cudnnReduceTensorOp_t, cudnnBackendHeurMode_t.
    public const int Float = 0, Int32 = 4, BFloat16 = 9, Boolean = 11;
    public const int Add = 0, Multiply = 1, Divide = 6, Subtract = 9, Exp = 13, Log = 15, GreaterOrEqual = 303, Index = 501, Select = 601;
    public const int ReduceAdd = 0, ReduceMax = 3;
    public const int HeuristicModeA = 3;
    private const string Library = "nibble-cudnn";

    [LibraryImport(Library)]
    public static partial int cudnnCreate(out nint handle);

    [LibraryImport(Library)]
    public static partial int cudnnDestroy(nint handle);

    [LibraryImport(Library)]
    public static partial int cudnnSetStream(nint handle, nint stream);

    [LibraryImport(Library)]
    public static partial nuint cudnnGetVersion();

    [LibraryImport(Library)]
    public static partial nint cudnnGetErrorString(int status);

    [LibraryImport(Library)]
    public static partial void cudnnGetLastErrorString(byte* message, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cudnnBackendCreateDescriptor(int type, out nint descriptor);

    [LibraryImport(Library)]
    public static partial int cudnnBackendDestroyDescriptor(nint descriptor);

    [LibraryImport(Library)]
    public static partial int cudnnBackendSetAttribute(nint descriptor, int name, int type, long count, void* values);

    [LibraryImport(Library)]
    public static partial int cudnnBackendGetAttribute(nint descriptor, int name, int type, long requested, out long count, void* values);

    [LibraryImport(Library)]
    public static partial int cudnnBackendFinalize(nint descriptor);

    [LibraryImport(Library)]
    public static partial int cudnnBackendExecute(nint handle, nint plan, nint pack);
}
