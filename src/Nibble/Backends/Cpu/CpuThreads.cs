using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Nibble.IO;

namespace Nibble.Backends.Cpu;

/// <summary>A kernel's work, split into parts that can run in any order on any thread.</summary>
internal interface ICpuJob
{
    /// <summary>Does part <paramref name="part"/> of the parts given to <see cref="CpuThreads.Run"/>.</summary>
    void Execute(int part);
}

/// <summary>
/// The threads of the CPU backend: they wait for work by spinning for a moment, then park. One caller at a time has them; a call
/// from inside a part, or while another caller has them, does all its parts itself. The parts are chosen by the kernel, never by
/// the number of threads, so results do not depend on it.
/// </summary>
/// <remarks>
/// Work is handed out through one word, <c>run number « 32 | next part</c>, advanced by compare-and-swap: whoever wins the swap
/// owns a part of that run, so the fields that describe the run, read before the swap, belong to it. Nobody waits for a thread
/// that did not take a part, hence a parked or descheduled worker never delays a small kernel.
/// </remarks>
internal sealed unsafe class CpuThreads
{
    public const string EnvironmentVariable = "NIBBLE_THREADS";

    // About 50 µs: longer than the gap between two kernels of a model, shorter than anybody notices on an idle machine.
    private const int SpinsBeforeParking = 3000;
    private const int MostThreads = 256;

    // A part number beyond every run's: no worker can take it.
    private const long Closed = int.MaxValue;

    private static readonly ConcurrentDictionary<int, Lazy<CpuThreads>> Pools = new();

    private readonly Worker[] _workers;
    private Word _ticket;
    private Word _finished;
    private delegate*<void*, int, void> _execute;
    private void* _job;
    private int _parts;
    private int _busy;
    private Exception? _error;

    private CpuThreads(int count, int[]? processors)
    {
        Count = count;
        _workers = new Worker[count - 1];
        for (int i = 0; i < _workers.Length; i++)
        {
            _workers[i] = new Worker(this, i + 1, processors is null ? null : processors[(i + 1) % processors.Length]);
        }
    }

    /// <summary>Threads that take part, the caller included.</summary>
    public int Count { get; }

    /// <summary>The pool of <paramref name="count"/> threads: shared by all backends of the process, its threads live as long as it.</summary>
    public static CpuThreads Shared(int count) => Pools.GetOrAdd(count, count => new(() => Create(count))).Value;

    /// <summary>Workers that sleep until there is work: all of them, some 50 µs after the last run.</summary>
    public int Parked => _workers.Count(worker => worker.IsParked);

    /// <summary>The number of threads from an option, else from NIBBLE_THREADS, else one per processor (of NIBBLE_AFFINITY, if that is set).</summary>
    public static int Choose(int? option)
    {
        string? text = Environment.GetEnvironmentVariable(EnvironmentVariable);
        int count = option ?? (string.IsNullOrEmpty(text) ? CpuAffinity.Chosen()?.Length ?? Environment.ProcessorCount : int.TryParse(text, out int parsed) ? parsed : 0);
        if (count is < 1 or > MostThreads)
        {
            Throw.Usage(
                $"{option?.ToString() ?? text} threads can't be used",
                "the number of threads must be a whole number",
                $"give 1 to {MostThreads}, or leave {EnvironmentVariable} empty for one per processor");
        }

        return count;
    }

    /// <summary>Runs all parts of a job and returns when the last has ended. Allocates nothing.</summary>
    public void Run<TJob>(int parts, in TJob job)
        where TJob : struct, ICpuJob
    {
        void* address = Unsafe.AsPointer(ref Unsafe.AsRef(in job));
        if (parts <= 1 || Count == 1 || Interlocked.CompareExchange(ref _busy, 1, 0) != 0)
        {
            RunAlone<TJob>(address, parts);
            return;
        }

        try
        {
            Fork(&Invoke<TJob>, address, parts);
        }
        finally
        {
            Volatile.Write(ref _busy, 0);
        }
    }

    private static CpuThreads Create(int count)
    {
        int[]? processors = CpuAffinity.Chosen();
        if (processors is not null)
        {
            CpuAffinity.Require(processors);
        }

        return new CpuThreads(count, processors);
    }

    // Its errors are those of a run by all threads: whether the pool is busy with another caller's job is nobody's concern.
    private static void RunAlone<TJob>(void* job, int parts)
        where TJob : struct, ICpuJob
    {
        try
        {
            for (int part = 0; part < parts; part++)
            {
                Invoke<TJob>(job, part);
            }
        }
        catch (Exception error) when (Named(error) is var named && named != error)
        {
            throw named;
        }
    }

    // The error of a part, as callers see it; what a job within a job, or Nibble itself, has said stays as it is.
    private static Exception Named(Exception error)
    {
        const string failure = "a part of a CPU kernel failed: ";
        return error switch
        {
            NibbleException or OperationCanceledException => error,
            _ when error.Message.StartsWith(failure, StringComparison.Ordinal) => error,
            OutOfMemoryException => new OutOfMemoryException(failure + error.Message, error),
            _ => new InvalidOperationException(failure + error.Message, error),
        };
    }

    private static void Invoke<TJob>(void* job, int part)
        where TJob : struct, ICpuJob => Unsafe.AsRef<TJob>(job).Execute(part);

    private void Fork(delegate*<void*, int, void> execute, void* job, int parts)
    {
        // Close the ticket before the fields change: a worker still looking at the last run would otherwise compare its used-up
        // ticket with the new number of parts, win the swap, and do a part of this run twice.
        long run = (Volatile.Read(ref _ticket.Value) >> 32) + 1;
        Interlocked.Exchange(ref _ticket.Value, ((run - 1) << 32) | Closed);
        _execute = execute;
        _job = job;
        Volatile.Write(ref _parts, parts);
        _error = null;
        Volatile.Write(ref _finished.Value, 0);
        Interlocked.Exchange(ref _ticket.Value, run << 32);
        for (int i = 0; i < _workers.Length && i < parts - 1; i++)
        {
            _workers[i].Wake();
        }

        TakeParts();
        for (int spins = 0; Volatile.Read(ref _finished.Value) != parts; spins++)
        {
            Pause();
            if (spins > SpinsBeforeParking)
            {
                // Whoever has the last part may have lost its processor to us.
                Thread.Yield();
            }
        }

        if (_error is not null)
        {
            throw Named(_error);
        }
    }

    /// <summary>Takes parts of the current run, if there is one, until none is left.</summary>
    private void TakeParts()
    {
        while (true)
        {
            long ticket = Volatile.Read(ref _ticket.Value);
            delegate*<void*, int, void> execute = _execute;
            void* job = _job;
            int part = (int)ticket;
            if (part >= Volatile.Read(ref _parts))
            {
                return;
            }

            if (Interlocked.CompareExchange(ref _ticket.Value, ticket + 1, ticket) == ticket)
            {
                Execute(execute, job, part);
            }
        }
    }

    private void Execute(delegate*<void*, int, void> execute, void* job, int part)
    {
        try
        {
            execute(job, part);
        }
        catch (Exception error)
        {
            // The caller must see it, and must not leave its stack frame (the job) before all parts have ended.
            _error = error;
        }

        Interlocked.Increment(ref _finished.Value);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Pause()
    {
        if (X86Base.IsSupported)
        {
            X86Base.Pause();
        }
        else
        {
            Thread.SpinWait(1);
        }
    }

    /// <summary>A counter on cache lines of its own: neighbours written by others would slow every spin.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct Word
    {
        [FieldOffset(128)]
        public long Value;
    }

    private sealed class Worker
    {
        private readonly CpuThreads _pool;
        private readonly SemaphoreSlim _signal = new(0);
        private readonly int? _processor;
        private int _parked;

        public Worker(CpuThreads pool, int number, int? processor)
        {
            (_pool, _processor) = (pool, processor);
            new Thread(Loop, 256 << 10) { IsBackground = true, Name = $"nibble-cpu-{number}" }.Start();
        }

        public bool IsParked => Volatile.Read(ref _parked) == 1;

        public void Wake()
        {
            if (Volatile.Read(ref _parked) == 1 && Interlocked.Exchange(ref _parked, 0) == 1)
            {
                _signal.Release();
            }
        }

        private void Loop()
        {
            if (_processor is { } processor)
            {
                // The list was checked as a whole; a processor that went away meanwhile leaves its thread unbound.
                _ = CpuAffinity.Bind([processor]);
            }

            long seen = 0;
            while (true)
            {
                seen = WaitForRun(seen);
                _pool.TakeParts();
            }
        }

        private long WaitForRun(long seen)
        {
            for (int spins = 0; ; spins++)
            {
                long run = Volatile.Read(ref _pool._ticket.Value) >> 32;
                if (run != seen)
                {
                    return run;
                }

                Pause();
                if (spins >= SpinsBeforeParking)
                {
                    Park(seen);
                    spins = 0;
                }
            }
        }

        private void Park(long seen)
        {
            // The exchange orders "parked" before the second look at the ticket; Fork writes the ticket before it looks at "parked".
            Interlocked.Exchange(ref _parked, 1);
            bool news = Volatile.Read(ref _pool._ticket.Value) >> 32 != seen;
            if (!news || Interlocked.Exchange(ref _parked, 0) == 0)
            {
                // Either nothing to do, or Wake has already released the signal, which must then be consumed.
                _signal.Wait();
            }
        }
    }
}
