using System.Runtime.CompilerServices;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu.Kernels;

/// <summary>
/// Causal attention over the cache with an online softmax (arXiv 1805.02867; FlashAttention's loop, arXiv 2205.14135): keys are
/// visited in blocks, with a running largest score, sum and weighted values, so that memory does not grow with the length.
/// A part serves up to 64 queries that share a key-value head: some tokens times the heads of the group. The keys of a single token are
/// parts of their own, <see cref="KeysPerPart"/> each, so that a long context keeps all threads busy; <see cref="AttentionMerge{S, V}"/>
/// puts them together. How many there are depends on the context alone.
/// </summary>
internal unsafe struct AttentionJob<S, V, F> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
    where F : struct, IKvFormat
{
    private const int MostRows = 64;
    private const nint KeysPerPart = 512;

    private readonly float* _query, _output;
    private readonly byte* _keys, _values;
    private readonly int* _firstKey;
    private readonly nint _batch, _length, _start, _heads, _kvHeads, _capacity, _dim, _window;
    private readonly float _scale;
    private readonly bool _ofQueries;
    private float* _partial;

    private AttentionJob(in AttentionArguments a)
    {
        _query = (float*)a.Query.HostPointer;
        _keys = a.Keys.HostPointer;
        _values = a.Values.HostPointer;
        _output = (float*)a.Output.HostPointer;
        _firstKey = a.FirstKey is null ? null : (int*)a.FirstKey.HostPointer;
        (_batch, _length, _start, _window, _scale) = (a.Batch, a.Length, a.Start, a.Window, a.Scale);
        _ofQueries = a.HasFirstKeyOfQueries;
        (_heads, _dim) = (a.Query.Shape[1], a.Query.Shape[2]);
        (_kvHeads, _capacity) = (a.Keys.Shape[1], a.Keys.Shape[2]);
    }

    private readonly int Parts => checked((int)(_batch * _kvHeads * TokenBlocks * KeyParts));

    private readonly nint Group => _heads / _kvHeads;

    private readonly nint TokensPerPart => nint.Max(1, MostRows / Group);

    private readonly nint TokenBlocks => (_length + TokensPerPart - 1) / TokensPerPart;

    private readonly nint KeyParts => _length > 1 ? 1 : (_start + KeysPerPart) / KeysPerPart;

    private readonly nint PartialFloats => Group * AttentionMerge<S, V>.RowFloats(_dim);

    /// <summary>Attends.</summary>
    public static void Run(in AttentionArguments arguments, CpuThreads threads)
    {
        AttentionJob<S, V, F> job = new(arguments);
        if (job.KeyParts == 1)
        {
            threads.Run(job.Parts, job);
            return;
        }

        using CpuScratch.Lease partial = CpuScratch.Rent(job.Parts * job.PartialFloats * sizeof(float));
        job._partial = (float*)partial.Pointer;
        threads.Run(job.Parts, job);
        AttentionMerge<S, V> merge = new() { Partial = job._partial, Output = job._output, Parts = job.KeyParts, Group = job.Group, Dim = job._dim };
        threads.Run(checked((int)(job._batch * job._heads)), merge);
    }

    public readonly void Execute(int part)
    {
        // The last tokens see the most keys: they come first, so that no long part is left over at the end.
        (nint keyPart, nint rest) = (part % KeyParts, part / KeyParts);
        nint block = TokenBlocks - 1 - (rest % TokenBlocks);
        nint head = rest / TokenBlocks % _kvHeads;
        nint batch = rest / TokenBlocks / _kvHeads;
        nint token = block * TokensPerPart;
        nint cache = ((batch * _kvHeads) + head) * _capacity * F.RowBytes(_dim);
        nint row = ((((batch * _length) + token) * _heads) + (head * Group)) * _dim;
        AttentionRows<S, V, F> rows = new()
        {
            Query = _query + row,
            Output = _output + row,
            Keys = _keys + cache,
            Values = _values + cache,
            Tokens = (int)nint.Min(TokensPerPart, _length - token),
            Group = (int)Group,
            TokenStride = _heads * _dim,
            Dim = _dim,
            Last = _start + token,
            First = _firstKey == null || _ofQueries ? 0 : _firstKey[batch],
            Firsts = _ofQueries ? _firstKey + (batch * _length) + token : null,
            Window = _window,
            Scale = _scale,
            From = keyPart * KeysPerPart,
            Count = KeyParts == 1 ? int.MaxValue : KeysPerPart,
            Partial = _partial == null ? null : _partial + (part * PartialFloats),
        };
        rows.Run();
    }
}

/// <summary>Puts the parts of one query's keys together: Σ e^(largest of the part − largest)·sums, over the same of the weights.</summary>
internal unsafe struct AttentionMerge<S, V> : ICpuJob
    where S : struct, ILanes<V>
    where V : unmanaged
{
    public float* Partial, Output;
    public nint Parts, Group, Dim;

    /// <summary>Floats of the partial result of a row: weighted values, largest score, sum of weights.</summary>
    public static nint RowFloats(nint dim) => dim + 2;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Execute(int part)
    {
        nint floats = RowFloats(Dim), stride = Group * floats;
        float* output = Output + (part * Dim), first = Partial + (part / Group * Parts * stride) + (part % Group * floats);
        new Span<float>(output, (int)Dim).Clear();
        float largest = float.NegativeInfinity, total = 0;
        for (nint i = 0; i < Parts; i++)
        {
            largest = MathF.Max(largest, first[(i * stride) + Dim]);
        }

        for (nint i = 0; i < Parts; i++)
        {
            float* sums = first + (i * stride);
            float weight = sums[Dim + 1] > 0 || float.IsNaN(sums[Dim + 1]) ? MathF.Exp(sums[Dim] - largest) : 0;
            if (weight != 0)
            {
                Reduce<S, V>.AddScaled(sums, weight, output, Dim);
                total += weight * sums[Dim + 1];
            }
        }

        if (total != 0)
        {
            Reduce<S, V>.Scale(output, 1 / total, Dim);
        }
    }
}
