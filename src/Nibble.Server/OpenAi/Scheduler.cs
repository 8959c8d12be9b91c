using System.Threading.Channels;
using Nibble.Generation;
using Nibble.Models;

namespace Nibble.Server.OpenAi;

/// <summary>One answer that is wanted.</summary>
internal sealed record Sequence(int[] Prompt, IReadOnlyCollection<int> Ends, GenerationOptions Options);

/// <summary>A new token of one of a request's answers.</summary>
internal readonly record struct Piece(int Index, int CachedTokens, GenerationStep Step);

/// <summary>
/// One thread that generates for all requests: their answers join a <see cref="ContinuousBatch"/> as rows become free, one of each waiting request
/// in turn, so that a request for many answers holds up nobody. Those that find no place to wait are refused.
/// </summary>
internal sealed class Scheduler : IDisposable
{
    private readonly LoadedModel _model;
    private readonly ServeOptions _options;
    private readonly ContinuousBatch _batch;
    private readonly Dictionary<BatchRow, (Submission Request, int Index)> _rows = [];
    private readonly List<(BatchRow Row, GenerationStep Step)> _steps = [];
    private readonly List<(BatchRow Row, Exception Error)> _failures = [];
    private readonly LinkedList<Submission> _waiting = [];
    private readonly Lock _gate = new();
    private readonly SemaphoreSlim _work = new(0);
    private readonly Thread _thread;
    private long? _stopAt;
    private int _active;

    public Scheduler(LoadedModel model, ServeOptions options)
    {
        (_model, _options) = (model, options);
        _batch = new ContinuousBatch(model.Model, model.Tokenizer, options.Parallel);
        _thread = new Thread(Loop) { IsBackground = true, Name = "generation" };
        _thread.Start();
    }

    /// <summary>Answers under way, and answers that wait.</summary>
    public (int Active, int Waiting) Load
    {
        get
        {
            lock (_gate)
            {
                return (_active, _waiting.Sum(request => request.Left));
            }
        }
    }

    /// <summary>Takes a request: its tokens come through the reader, which ends with the last of them or with an error.</summary>
    /// <exception cref="ApiException">There is no place to wait, or the server stops.</exception>
    public ChannelReader<Piece> Submit(IReadOnlyList<Sequence> sequences, CancellationToken gone)
    {
        int most = _options.Parallel + _options.Queue;
        if (sequences.Count > most)
        {
            throw ApiException.Invalid($"{sequences.Count} answers are wanted; this server takes {most} at most, those that wait included.", "n", "invalid_value");
        }

        Submission request = new(sequences, gone);
        lock (_gate)
        {
            if (_stopAt is not null)
            {
                throw Stopping();
            }

            int taken = _active + _waiting.Sum(waiting => waiting.Left);
            if (taken + sequences.Count > most)
            {
                throw ApiException.NoPlace($"{taken} answers are under way or wait, {most} are the most; try again in a moment.");
            }

            _waiting.AddLast(request);
        }

        _work.Release();
        // Who waits no longer leaves the queue at once; rows under way are looked at after each step.
        request.Registration = gone.Register(() => Forget(request));
        return request.Pieces.Reader;
    }

    /// <summary>Takes nothing more; what is under way has some time to end, what waits is refused.</summary>
    public void Stop(TimeSpan patience)
    {
        lock (_gate)
        {
            _stopAt ??= Environment.TickCount64 + (long)patience.TotalMilliseconds;
        }

        _work.Release();
    }

    public void Dispose()
    {
        Stop(TimeSpan.Zero);
        _thread.Join();
        _batch.Dispose();
        _work.Dispose();
    }

    private static ApiException Stopping() => ApiException.NoPlace("The server is being stopped.");

    private void Forget(Submission request)
    {
        lock (_gate)
        {
            _waiting.Remove(request);
        }
    }

    private void Loop()
    {
        while (true)
        {
            bool stopping = StopIfDue(out bool ended);
            if (ended)
            {
                return;
            }

            if (!stopping)
            {
                Admit();
            }

            if (_batch.Rows.Count == 0)
            {
                _work.Wait();
                continue;
            }

            Step();
        }
    }

    /// <summary>Once stopped: refuses those that wait, and at the time that was given those under way; ended when there are none.</summary>
    private bool StopIfDue(out bool ended)
    {
        ended = false;
        Submission[] refused;
        lock (_gate)
        {
            if (_stopAt is not { } at)
            {
                return false;
            }

            bool due = Environment.TickCount64 >= at;
            refused = [.. _waiting, .. due ? _rows.Values.Select(row => row.Request) : []];
            _waiting.Clear();
            ended = due || _rows.Count == 0;
        }

        foreach (Submission request in refused)
        {
            Fail(request, Stopping());
        }

        return true;
    }

    private void Admit()
    {
        while (_batch.Rows.Count < _batch.Capacity)
        {
            Submission request;
            int index;
            lock (_gate)
            {
                if (_waiting.First is not { } first)
                {
                    return;
                }

                _waiting.RemoveFirst();
                request = first.Value;
                index = request.Next++;
                if (request.Left > 0)
                {
                    _waiting.AddLast(request);
                }

                _active++;
            }

            Join(request, index);
        }
    }

    private void Join(Submission request, int index)
    {
        try
        {
            Sequence sequence = request.Sequences[index];
            _rows.Add(_batch.Add(sequence.Prompt, sequence.Ends, sequence.Options), (request, index));
        }
        catch (Exception error)
        {
            // Memory for this one, at most: what can be wrong with a request was looked at before.
            Ended();
            Fail(request, error);
        }
    }

    private void Step()
    {
        try
        {
            _batch.Step(_steps, _failures);
        }
        catch (Exception error)
        {
            // It was none of the rows: what they have in memory may be half written.
            foreach (Submission request in _rows.Values.Select(row => row.Request).Distinct().ToArray())
            {
                Fail(request, error);
            }

            _batch.Clear();
            return;
        }

        foreach ((BatchRow row, GenerationStep step) in _steps)
        {
            (Submission request, int index) = _rows[row];
            request.Pieces.Writer.TryWrite(new Piece(index, row.CachedTokens, step));
            if (step.Finish is not null)
            {
                _rows.Remove(row);
                Ended();
                request.EndOne();
            }
        }

        foreach ((BatchRow row, Exception error) in _failures)
        {
            // Several rows of one request may have failed.
            if (_rows.TryGetValue(row, out (Submission Request, int Index) failed))
            {
                Fail(failed.Request, error);
            }
        }

        foreach (Submission request in _rows.Values.Select(row => row.Request).Where(request => request.Gone.IsCancellationRequested).Distinct().ToArray())
        {
            Fail(request, new OperationCanceledException(request.Gone));
        }
    }

    /// <summary>Ends a request and its rows.</summary>
    private void Fail(Submission request, Exception error)
    {
        Forget(request);
        foreach (BatchRow row in _rows.Where(row => row.Value.Request == request).Select(row => row.Key).ToArray())
        {
            _rows.Remove(row);
            _batch.Remove(row);
            Ended();
        }

        request.End(error);
    }

    private void Ended()
    {
        lock (_gate)
        {
            _active--;
        }
    }

    private sealed class Submission(IReadOnlyList<Sequence> sequences, CancellationToken gone)
    {
        private int _running = sequences.Count;

        public IReadOnlyList<Sequence> Sequences => sequences;

        public CancellationToken Gone => gone;

        /// <summary>The answer that joins next.</summary>
        public int Next { get; set; }

        public int Left => sequences.Count - Next;

        public CancellationTokenRegistration Registration { get; set; }

        /// <summary>No longer than the answers: a client that reads slowly holds up nobody.</summary>
        public Channel<Piece> Pieces { get; } = Channel.CreateUnbounded<Piece>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });

        public void EndOne()
        {
            if (--_running == 0)
            {
                End(null);
            }
        }

        public void End(Exception? error)
        {
            Registration.Unregister();
            Pieces.Writer.TryComplete(error);
        }
    }
}
