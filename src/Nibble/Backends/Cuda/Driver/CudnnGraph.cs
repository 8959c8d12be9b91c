using System.Runtime.InteropServices;
using System.Text;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>cuDNN refused a graph, or a call failed.</summary>
internal sealed class CudnnException(string message) : Exception(message);

/// <summary>A tensor of a graph.</summary>
/// <param name="Descriptor">cuDNN's descriptor.</param>
/// <param name="Id">Its number, by which memory is given.</param>
internal readonly record struct CudnnTensor(nint Descriptor, long Id);

/// <summary>A graph of operations that cuDNN runs as one: operations are added, then <see cref="Build"/> asks for a plan.</summary>
internal sealed unsafe class CudnnGraph : IDisposable
{
    private const long Alignment = 16;
    private readonly List<nint> _descriptors = [];
    private readonly List<nint> _operations = [];

    /// <summary>A tensor of four dimensions: memory that the caller gives, what only operations see (virtual), or one number on the host (value).</summary>
    public CudnnTensor Tensor(int type, ReadOnlySpan<long> dimensions, ReadOnlySpan<long> strides, bool isVirtual = false, bool isValue = false)
    {
        nint tensor = Create(CudnnApi.Tensor);
        long id = _descriptors.Count;
        Set(tensor, CudnnApi.TensorDataType, CudnnApi.TypeDataType, type);
        SetMany(tensor, CudnnApi.TensorDimensions, CudnnApi.TypeInt64, dimensions);
        SetMany(tensor, CudnnApi.TensorStrides, CudnnApi.TypeInt64, strides);
        Set(tensor, CudnnApi.TensorId, CudnnApi.TypeInt64, id);
        Set(tensor, CudnnApi.TensorAlignment, CudnnApi.TypeInt64, Alignment);
        Set(tensor, CudnnApi.TensorIsVirtual, CudnnApi.TypeBoolean, isVirtual);
        Set(tensor, CudnnApi.TensorIsValue, CudnnApi.TypeBoolean, isValue);
        return new CudnnTensor(Finish(tensor), id);
    }

    /// <summary>c = a·b.</summary>
    public void Matmul(CudnnTensor a, CudnnTensor b, CudnnTensor c)
    {
        nint description = Create(CudnnApi.Matmul), operation = Create(CudnnApi.MatmulOperation);
        Set(description, CudnnApi.MatmulPrecision, CudnnApi.TypeDataType, CudnnApi.Float);
        Set(operation, CudnnApi.MatmulA, CudnnApi.TypeDescriptor, a.Descriptor);
        Set(operation, CudnnApi.MatmulB, CudnnApi.TypeDescriptor, b.Descriptor);
        Set(operation, CudnnApi.MatmulC, CudnnApi.TypeDescriptor, c.Descriptor);
        Set(operation, CudnnApi.MatmulDescription, CudnnApi.TypeDescriptor, Finish(description));
        _operations.Add(Finish(operation));
    }

    /// <summary>y = mode(x, b), or x where t else b (<see cref="CudnnApi.Select"/>); an index along an axis needs the axis.</summary>
    public void Pointwise(int mode, CudnnTensor x, CudnnTensor y, CudnnTensor? b = null, CudnnTensor? t = null, int precision = CudnnApi.Float, long? axis = null)
    {
        nint description = Create(CudnnApi.Pointwise), operation = Create(CudnnApi.PointwiseOperation);
        Set(description, CudnnApi.PointwiseMode, CudnnApi.TypePointwiseMode, mode);
        Set(description, CudnnApi.PointwisePrecision, CudnnApi.TypeDataType, precision);
        if (axis is { } along)
        {
            Set(description, CudnnApi.PointwiseAxis, CudnnApi.TypeInt64, along);
        }

        Set(operation, CudnnApi.PointwiseDescription, CudnnApi.TypeDescriptor, Finish(description));
        Set(operation, CudnnApi.PointwiseX, CudnnApi.TypeDescriptor, x.Descriptor);
        Set(operation, CudnnApi.PointwiseY, CudnnApi.TypeDescriptor, y.Descriptor);
        if (b is { } second)
        {
            Set(operation, CudnnApi.PointwiseB, CudnnApi.TypeDescriptor, second.Descriptor);
        }

        if (t is { } choice)
        {
            Set(operation, CudnnApi.PointwiseT, CudnnApi.TypeDescriptor, choice.Descriptor);
        }

        _operations.Add(Finish(operation));
    }

    /// <summary>y = x reduced over the dimensions that are 1 in y.</summary>
    public void Reduce(int how, CudnnTensor x, CudnnTensor y)
    {
        nint description = Create(CudnnApi.Reduction), operation = Create(CudnnApi.ReductionOperation);
        Set(description, CudnnApi.ReductionPrecision, CudnnApi.TypeDataType, CudnnApi.Float);
        Set(description, CudnnApi.ReductionOperator, CudnnApi.TypeReductionOperator, how);
        Set(operation, CudnnApi.ReductionX, CudnnApi.TypeDescriptor, x.Descriptor);
        Set(operation, CudnnApi.ReductionY, CudnnApi.TypeDescriptor, y.Descriptor);
        Set(operation, CudnnApi.ReductionDescription, CudnnApi.TypeDescriptor, Finish(description));
        _operations.Add(Finish(operation));
    }

    /// <summary>y is x seen with other strides.</summary>
    public void Reshape(CudnnTensor x, CudnnTensor y)
    {
        nint operation = Create(CudnnApi.ReshapeOperation);
        Set(operation, CudnnApi.ReshapeX, CudnnApi.TypeDescriptor, x.Descriptor);
        Set(operation, CudnnApi.ReshapeY, CudnnApi.TypeDescriptor, y.Descriptor);
        _operations.Add(Finish(operation));
    }

    /// <summary>The first plan of cuDNN's heuristics that can be made for this card.</summary>
    public CudnnPlan Build(nint handle)
    {
        nint graph = Create(CudnnApi.OperationGraph), heuristic = Create(CudnnApi.EngineHeuristic);
        SetMany(graph, CudnnApi.GraphOperations, CudnnApi.TypeDescriptor, CollectionsMarshal.AsSpan(_operations));
        Set(graph, CudnnApi.GraphHandle, CudnnApi.TypeHandle, handle);
        Set(heuristic, CudnnApi.HeuristicGraph, CudnnApi.TypeDescriptor, Finish(graph));
        Set(heuristic, CudnnApi.HeuristicMode, CudnnApi.TypeHeuristicMode, CudnnApi.HeuristicModeA);
        Finish(heuristic);
        Check(CudnnApi.cudnnBackendGetAttribute(heuristic, CudnnApi.HeuristicResults, CudnnApi.TypeDescriptor, 0, out long found, null), "count of engines");
        nint[] engines = [.. Enumerable.Range(0, (int)found).Select(_ => Create(CudnnApi.EngineConfig))];
        fixed (nint* pointer = engines)
        {
            Check(CudnnApi.cudnnBackendGetAttribute(heuristic, CudnnApi.HeuristicResults, CudnnApi.TypeDescriptor, found, out found, pointer), "engines");
        }

        string problem = "no engine was proposed";
        foreach (nint engine in engines.Take((int)found))
        {
            nint plan = Create(CudnnApi.ExecutionPlan);
            try
            {
                Set(plan, CudnnApi.PlanHandle, CudnnApi.TypeHandle, handle);
                Set(plan, CudnnApi.PlanConfig, CudnnApi.TypeDescriptor, engine);
                Finish(plan);
                long bytes;
                Check(CudnnApi.cudnnBackendGetAttribute(plan, CudnnApi.PlanWorkspaceBytes, CudnnApi.TypeInt64, 1, out _, &bytes), "workspace of a plan");
                return new CudnnPlan(this, plan, (nint)bytes);
            }
            catch (CudnnException error)
            {
                problem = error.Message;
            }
        }

        throw new CudnnException(problem);
    }

    /// <summary>Throws if a call failed.</summary>
    public static void Check(int status, string what)
    {
        if (status != 0)
        {
            byte[] last = new byte[512];
            fixed (byte* pointer = last)
            {
                CudnnApi.cudnnGetLastErrorString(pointer, (nuint)last.Length);
            }

            string detail = Encoding.UTF8.GetString(last).TrimEnd('\0').Trim();
            throw new CudnnException($"cuDNN: {what}: {Marshal.PtrToStringUTF8(CudnnApi.cudnnGetErrorString(status))}{(detail.Length > 0 ? $" ({detail})" : string.Empty)}");
        }
    }

    public void Dispose()
    {
        for (int i = _descriptors.Count - 1; i >= 0; i--)
        {
            CudnnApi.cudnnBackendDestroyDescriptor(_descriptors[i]);
        }

        _descriptors.Clear();
    }

    private nint Create(int type)
    {
        Check(CudnnApi.cudnnBackendCreateDescriptor(type, out nint descriptor), $"descriptor of type {type}");
        _descriptors.Add(descriptor);
        return descriptor;
    }

    private static nint Finish(nint descriptor)
    {
        Check(CudnnApi.cudnnBackendFinalize(descriptor), "finalizing a descriptor");
        return descriptor;
    }

    private static void Set<T>(nint descriptor, int name, int type, T value)
        where T : unmanaged => Check(CudnnApi.cudnnBackendSetAttribute(descriptor, name, type, 1, &value), $"attribute {name}");

    private static void SetMany<T>(nint descriptor, int name, int type, ReadOnlySpan<T> values)
        where T : unmanaged
    {
        fixed (T* pointer = values)
        {
            Check(CudnnApi.cudnnBackendSetAttribute(descriptor, name, type, values.Length, pointer), $"attribute {name}");
        }
    }
}

/// <summary>A graph that is ready to run.</summary>
internal sealed unsafe class CudnnPlan(CudnnGraph graph, nint plan, nint workspaceBytes) : IDisposable
{
    /// <summary>Memory that a run needs.</summary>
    public nint WorkspaceBytes => workspaceBytes;

    /// <summary>Queues the plan with memory for each tensor that is neither virtual nor left out.</summary>
    public void Run(nint handle, ReadOnlySpan<long> ids, ReadOnlySpan<nint> addresses, nint workspace)
    {
        CudnnGraph.Check(CudnnApi.cudnnBackendCreateDescriptor(CudnnApi.VariantPack, out nint pack), "variant pack");
        try
        {
            fixed (long* id = ids)
            fixed (nint* address = addresses)
            {
                CudnnGraph.Check(CudnnApi.cudnnBackendSetAttribute(pack, CudnnApi.PackIds, CudnnApi.TypeInt64, ids.Length, id), "tensors of a run");
                CudnnGraph.Check(CudnnApi.cudnnBackendSetAttribute(pack, CudnnApi.PackAddresses, CudnnApi.TypeAddress, addresses.Length, address), "memory of a run");
                CudnnGraph.Check(CudnnApi.cudnnBackendSetAttribute(pack, CudnnApi.PackWorkspace, CudnnApi.TypeAddress, 1, &workspace), "workspace of a run");
                CudnnGraph.Check(CudnnApi.cudnnBackendFinalize(pack), "variant pack");
                CudnnGraph.Check(CudnnApi.cudnnBackendExecute(handle, plan, pack), "running a plan");
            }
        }
        finally
        {
            CudnnApi.cudnnBackendDestroyDescriptor(pack);
        }
    }

    public void Dispose() => graph.Dispose();
}
