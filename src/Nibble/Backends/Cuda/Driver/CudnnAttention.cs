using System.Runtime.InteropServices;
using Nibble.IO;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>What one call of causal attention gives to cuDNN: addresses on the card; the gradients' are 0 forward.</summary>
internal readonly record struct AttentionAddresses(nint Query, nint Keys, nint Values, nint Output, nint Sums)
{
    public nint DOutput { get; init; }

    public nint DQuery { get; init; }

    public nint DKeys { get; init; }

    public nint DValues { get; init; }
}

/// <summary>
/// Causal attention and its gradient as graphs of cuDNN, which knows them and runs each as one kernel (or a few). The gradient keeps the
/// scores' gradient in memory and multiplies it with the keys afterwards: no atomics, the same bits every time.
/// </summary>
internal sealed unsafe class CudnnAttention : IDisposable
{
    /// <summary>Environment variable: <c>own</c> keeps cuDNN out.</summary>
    public const string Variable = "NIBBLE_CUDA_ATTENTION";

    // 9.0 was the first with all that these graphs need.
    private const int OldestVersion = 90000;

    // Plans cost time and memory, and texts of many lengths would have one for almost every step.
    private const int MostPlans = 32;
    private readonly Dictionary<FlashShape, Plans?> _plans = [];
    private readonly float* _numbers;
    private readonly nint _handle;

    private CudnnAttention(nint handle)
    {
        _handle = handle;
        _numbers = (float*)NativeMemory.Alloc(2 * sizeof(float));
        (_numbers[0], _numbers[1]) = (float.NegativeInfinity, 1);
    }

    /// <summary>Why the last shape that cuDNN refused was refused; null if none was.</summary>
    public string? Refusal { get; private set; }

    /// <summary>True if the user wants the own kernels.</summary>
    public static bool IsKeptOut => Environment.GetEnvironmentVariable(Variable) == "own";

    /// <summary>What stands against cuDNN here, or null.</summary>
    public static string? Problem()
    {
        if (IsKeptOut)
        {
            return $"{Variable}=own";
        }

        return CudaLibraries.TryLoad(CudaLibraries.Cudnn) == 0
            ? $"none of {string.Join(", ", CudaLibraries.Cudnn.Names)} was found"
            : (int)CudnnApi.cudnnGetVersion() < OldestVersion ? $"cuDNN {Version()} is older than 9.0" : null;
    }

    /// <summary>The version that is here, such as 9.19.0.</summary>
    public static string Version() => (int)CudnnApi.cudnnGetVersion() is var version ? $"{version / 10000}.{version / 100 % 100}.{version % 100}" : string.Empty;

    /// <summary>cuDNN on the calling thread's card and a stream; null where it is missing, kept out, or does not start.</summary>
    public static CudnnAttention? TryOpen(nint stream)
    {
        if (Problem() is not null || CudnnApi.cudnnCreate(out nint handle) != 0)
        {
            return null;
        }

        if (CudnnApi.cudnnSetStream(handle, stream) != 0)
        {
            CudnnApi.cudnnDestroy(handle);
            return null;
        }

        return new CudnnAttention(handle);
    }

    /// <summary>Bytes of scratch memory that a call needs; null if cuDNN does not take this shape, forward or backward.</summary>
    public nint? Workspace(in FlashShape shape, bool backward) => Find(shape) is { } plans ? (backward ? plans.Backward : plans.Forward).Bytes : null;

    /// <summary>Queues a call of a shape that <see cref="Workspace"/> took.</summary>
    public void Run(in FlashShape shape, in AttentionAddresses a, bool backward, nint workspace)
    {
        Plans plans = Find(shape)!;
        try
        {
            Queue(plans, shape, a, backward, workspace);
        }
        catch (CudnnException error)
        {
            throw new NibbleException(
                ErrorKind.Failed,
                $"attention of {shape.Batch} × {shape.Heads} × {shape.Length} × {shape.Dim} failed on the card",
                error.Message,
                $"set {Variable}=own for Nibble's own kernels, and report this with the output of nibble doctor",
                error);
        }
    }

    public void Dispose()
    {
        foreach (Plans? plans in _plans.Values)
        {
            plans?.Dispose();
        }

        _plans.Clear();
        NativeMemory.Free(_numbers);
        CudnnApi.cudnnDestroy(_handle);
    }

    private static bool IsGrouped(in FlashShape s) => s.Heads != s.KvHeads;

    private static nint DeltaBytes(in FlashShape s) => ((nint)s.Batch * s.Heads * s.Length * sizeof(float) + 255) / 256 * 256;

    // A gradient of keys or values for each head of queries, of which groups are then added.
    private static nint HeadBytes(in FlashShape s) => ((nint)s.Batch * s.Heads * s.Length * s.Dim * sizeof(ushort) + 255) / 256 * 256;

    // Whole rows only: other shapes are the own kernels'.
    private static bool Suits(in FlashShape s) =>
        s is { Start: 0, Window: 0, FirstOfQueries: 0, HasFirsts: 0, Dim: >= 16 and <= 128, Length: > 1 } && s.Dim % 8 == 0 && s.Heads % s.KvHeads == 0;

    private Plans? Find(in FlashShape shape)
    {
        if (!Suits(shape))
        {
            return null;
        }

        // The scale is an argument of a run.
        FlashShape key = shape with { Scale = 0 };
        if (_plans.TryGetValue(key, out Plans? plans))
        {
            return plans;
        }

        // The count never falls: what is refused now is refused on its way back too.
        if (_plans.Count >= MostPlans)
        {
            Refusal = $"too many shapes: the first {MostPlans} have plans";
            return null;
        }

        Bound? forward = null;
        try
        {
            forward = Bound.Make(key, backward: false, _handle);
            plans = new Plans(forward, Bound.Make(key, backward: true, _handle));
        }
        catch (CudnnException error)
        {
            forward?.Dispose();
            Refusal = error.Message;
        }

        _plans.Add(key, plans);
        return plans;
    }

    private void Queue(Plans plans, in FlashShape shape, in AttentionAddresses a, bool backward, nint workspace)
    {
        float scale = shape.Scale;
        nint numbers = (nint)_numbers;
        if (!backward)
        {
            plans.Forward.Run(_handle, [a.Query, a.Keys, a.Values, (nint)(&scale), numbers, a.Output, a.Sums], workspace);
            return;
        }

        nint deltas = workspace + plans.Backward.PlanBytes;
        ReadOnlySpan<nint> addresses =
        [
            a.Query, a.Keys, a.Values, (nint)(&scale), numbers, a.Output, a.Sums, a.DOutput, a.DQuery, a.DKeys, a.DValues, numbers + sizeof(float), deltas,
            deltas + DeltaBytes(shape), deltas + DeltaBytes(shape) + HeadBytes(shape),
        ];
        plans.Backward.Run(_handle, IsGrouped(shape) ? addresses : addresses[..^2], workspace);
    }

    private sealed record Plans(Bound Forward, Bound Backward) : IDisposable
    {
        public void Dispose()
        {
            Forward.Dispose();
            Backward.Dispose();
        }
    }

    /// <summary>A plan and the tensors to which it is given memory, in the order of the addresses.</summary>
    private sealed class Bound(CudnnPlan plan, long[] ids, nint extraBytes) : IDisposable
    {
        /// <summary>Scratch memory of the plan itself; other scratch memory stands behind it.</summary>
        public nint PlanBytes => (plan.WorkspaceBytes + 255) / 256 * 256;

        public nint Bytes => PlanBytes + extraBytes;

        public static Bound Make(in FlashShape shape, bool backward, nint handle)
        {
            CudnnGraph graph = new();
            try
            {
                AttentionGraph attention = new(graph, shape);
                long[] ids = [.. (backward ? attention.Backward() : attention.Forward()).Select(tensor => tensor.Id)];
                return new Bound(graph.Build(handle), ids, backward ? DeltaBytes(shape) + (IsGrouped(shape) ? 2 * HeadBytes(shape) : 0) : 0);
            }
            catch (CudnnException)
            {
                graph.Dispose();
                throw;
            }
        }

        public void Run(nint handle, ReadOnlySpan<nint> addresses, nint workspace) => plan.Run(handle, ids, addresses, workspace);

        public void Dispose() => plan.Dispose();
    }
}

/// <summary>The operations of causal attention, in the forms in which cuDNN knows them.</summary>
internal sealed class AttentionGraph
{
    private readonly CudnnGraph _graph;
    private readonly FlashShape _s;
    private readonly CudnnTensor _query, _keys, _scale, _lowest, _output, _sums;
    private readonly long[] _scores, _scoreStrides, _rows, _rowStrides, _heads, _ofKeys, _ofKeysT, _keyStrides, _keyStridesT;

    /// <summary>Makes the tensors that both directions share.</summary>
    public AttentionGraph(CudnnGraph graph, in FlashShape s)
    {
        (_graph, _s) = (graph, s);
        long batch = s.Batch, heads = s.Heads, length = s.Length, dim = s.Dim;
        (_scores, _scoreStrides) = ([batch, heads, length, length], [heads * length * length, length * length, length, 1]);
        (_rows, _rowStrides) = ([batch, heads, length, 1], [heads * length, length, 1, 1]);
        (_heads, _ofKeys, _ofKeysT) = ([batch, heads, length, dim], [batch, s.KvHeads, length, dim], [batch, s.KvHeads, dim, length]);
        (_keyStrides, _keyStridesT) = ([s.KeyBatch, s.KeyHead, s.KeyRow, 1], [s.KeyBatch, s.KeyHead, 1, s.KeyRow]);
        _query = graph.Tensor(CudnnApi.BFloat16, _heads, QueryStrides);
        _keys = graph.Tensor(CudnnApi.BFloat16, _ofKeysT, _keyStridesT);
        _scale = Number();
        _lowest = Number();
        _output = graph.Tensor(CudnnApi.BFloat16, _heads, OutStrides);
        _sums = graph.Tensor(CudnnApi.Float, _rows, _rowStrides);
    }

    private long[] QueryStrides => [_s.QueryBatch, _s.QueryHead, _s.QueryRow, 1];

    private long[] OutStrides => [_s.OutBatch, _s.OutHead, _s.OutRow, 1];

    /// <summary>output = softmax(mask(q·kᵀ·scale))·v and the logarithm of each row's sum. Gives the tensors that need memory, in the order of <see cref="CudnnAttention.Run"/>.</summary>
    public CudnnTensor[] Forward()
    {
        CudnnTensor values = _graph.Tensor(CudnnApi.BFloat16, _ofKeys, _keyStrides);
        CudnnTensor masked = Mask(Scaled());
        CudnnTensor most = Row(), shifted = Scores(), powers = Scores(), sum = Row(), log = Row(), weights = Scores(CudnnApi.BFloat16);
        _graph.Reduce(CudnnApi.ReduceMax, masked, most);
        _graph.Pointwise(CudnnApi.Subtract, masked, shifted, most);
        _graph.Pointwise(CudnnApi.Exp, shifted, powers);
        _graph.Reduce(CudnnApi.ReduceAdd, powers, sum);
        _graph.Pointwise(CudnnApi.Log, sum, log);
        _graph.Pointwise(CudnnApi.Add, most, _sums, log);
        _graph.Pointwise(CudnnApi.Divide, powers, weights, sum);
        _graph.Matmul(weights, values, _output);
        return [_query, _keys, values, _scale, _lowest, _output, _sums];
    }

    /// <summary>The gradients of queries, keys and values.</summary>
    public CudnnTensor[] Backward()
    {
        CudnnTensor values = _graph.Tensor(CudnnApi.BFloat16, _ofKeysT, _keyStridesT), slope = _graph.Tensor(CudnnApi.BFloat16, _heads, OutStrides);
        CudnnTensor dQuery = _graph.Tensor(CudnnApi.BFloat16, _heads, QueryStrides);
        CudnnTensor dKeys = _graph.Tensor(CudnnApi.BFloat16, _ofKeys, _keyStrides), dValues = _graph.Tensor(CudnnApi.BFloat16, _ofKeys, _keyStrides);
        CudnnTensor one = Number(), deltas = _graph.Tensor(CudnnApi.Float, _rows, _rowStrides);
        CudnnTensor both = _graph.Tensor(CudnnApi.Float, _heads, [_s.Heads * (long)_s.Length * _s.Dim, (long)_s.Length * _s.Dim, (long)_s.Heads * _s.Dim, 1], isVirtual: true), delta = Row();
        _graph.Pointwise(CudnnApi.Multiply, slope, both, _output);
        _graph.Reduce(CudnnApi.ReduceAdd, both, delta);
        _graph.Pointwise(CudnnApi.Multiply, delta, deltas, one);
        CudnnTensor shifted = Scores(), weights = Scores(), weightsT = ScoresT();
        _graph.Pointwise(CudnnApi.Subtract, Scaled(), shifted, _sums);
        _graph.Pointwise(CudnnApi.Exp, Mask(shifted), weights);
        _graph.Reshape(weights, weightsT);
        CudnnTensor[] wide = _s.Heads == _s.KvHeads ? [] : [Wide(), Wide()];
        Gather(weightsT, slope, dValues, wide.LastOrDefault());
        CudnnTensor ofWeights = Scores(), less = Scores(), ofSoftmax = Scores(), ofScores = Scores(), ofScoresT = ScoresT();
        _graph.Matmul(slope, values, ofWeights);
        _graph.Pointwise(CudnnApi.Subtract, ofWeights, less, deltas);
        _graph.Pointwise(CudnnApi.Multiply, less, ofSoftmax, weights);
        _graph.Pointwise(CudnnApi.Multiply, ofSoftmax, ofScores, _scale);
        _graph.Reshape(ofScores, ofScoresT);
        Gather(ofScoresT, _query, dKeys, wide.FirstOrDefault());
        CudnnTensor keys = _graph.Tensor(CudnnApi.Float, _ofKeys, _keyStrides, isVirtual: true);
        _graph.Reshape(_keys, keys);
        _graph.Matmul(ofScores, keys, dQuery);
        return [_query, _keys, values, _scale, _lowest, _output, _sums, slope, dQuery, dKeys, dValues, one, deltas, .. wide];
    }

    // Heads of queries that share a head of keys: the gradient of each, then their sum.
    private void Gather(CudnnTensor scores, CudnnTensor rows, CudnnTensor gradient, CudnnTensor wide)
    {
        if (_s.Heads == _s.KvHeads)
        {
            _graph.Matmul(scores, rows, gradient);
            return;
        }

        _graph.Matmul(scores, rows, wide);
        _graph.Reduce(CudnnApi.ReduceAdd, wide, gradient);
    }

    private CudnnTensor Wide() =>
        _graph.Tensor(CudnnApi.BFloat16, _heads, [(long)_s.Heads * _s.Length * _s.Dim, (long)_s.Length * _s.Dim, _s.Dim, 1]);

    private CudnnTensor Scaled()
    {
        CudnnTensor scores = Scores(), scaled = Scores();
        _graph.Matmul(_query, _keys, scores);
        _graph.Pointwise(CudnnApi.Multiply, scores, scaled, _scale);
        return scaled;
    }

    private CudnnTensor Mask(CudnnTensor scores)
    {
        CudnnTensor row = Scores(CudnnApi.Int32), column = Scores(CudnnApi.Int32), visible = Scores(CudnnApi.Boolean), masked = Scores();
        _graph.Pointwise(CudnnApi.Index, scores, row, axis: 2);
        _graph.Pointwise(CudnnApi.Index, scores, column, axis: 3);
        _graph.Pointwise(CudnnApi.GreaterOrEqual, row, visible, column, precision: CudnnApi.Boolean);
        _graph.Pointwise(CudnnApi.Select, scores, masked, _lowest, visible);
        return masked;
    }

    private CudnnTensor Number() => _graph.Tensor(CudnnApi.Float, [1, 1, 1, 1], [1, 1, 1, 1], isValue: true);

    private CudnnTensor Row() => _graph.Tensor(CudnnApi.Float, _rows, _rowStrides, isVirtual: true);

    private CudnnTensor Scores(int type = CudnnApi.Float) => _graph.Tensor(type, _scores, _scoreStrides, isVirtual: true);

    private CudnnTensor ScoresT() =>
        _graph.Tensor(CudnnApi.BFloat16, _scores, [_scoreStrides[0], _scoreStrides[1], 1, _s.Length], isVirtual: true);
}
