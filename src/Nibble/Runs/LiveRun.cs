using System.Diagnostics;
using Microsoft.Data.Sqlite;
using Nibble.IO;

namespace Nibble.Runs;

/// <summary>
/// A run that is recorded while it works. Numbers are only put aside by whoever works; a thread of its own writes them about once a
/// second in one transaction, so a slow or locked store slows nothing. A store that cannot be written costs a warning, never the work:
/// what could not be written is tried again.
/// </summary>
public sealed class LiveRun : IDisposable
{
    // Some minutes of the fastest training; a store that is away for longer loses the oldest numbers.
    private const int MostWaiting = 100_000;

    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1), BeatPause = TimeSpan.FromSeconds(5), Patience = TimeSpan.FromSeconds(40);

    private readonly Lock _queue = new();
    private readonly Lock _writing = new();
    private readonly ManualResetEventSlim _ending = new();
    private readonly RunStore? _store;
    private readonly Action<string>? _warn;
    private readonly Thread? _writer;
    private List<RunMetric> _waiting = [];
    private double? _progress;
    private bool _changed, _warned, _worked, _ended;
    private long _lastBeat;

    private LiveRun(RunStore? store, long? run, Action<string>? warn)
    {
        (_store, Id, _warn) = (store, run, warn);
        if (store is not null)
        {
            _writer = new Thread(WriteOn) { IsBackground = true, Name = "run store" };
            _writer.Start();
        }
    }

    /// <summary>A run that nobody records: everything can be called, and nothing happens.</summary>
    public static LiveRun Unrecorded() => new(null, null, null);

    /// <summary>The number of the run; null where it is not recorded.</summary>
    public long? Id { get; }

    /// <summary>Starts to record a run.</summary>
    /// <param name="path">File of the store.</param>
    /// <param name="describe">Says what starts, given the store: it may look for what came before.</param>
    /// <param name="warn">Told once if the store cannot be used.</param>
    public static LiveRun Start(string path, Func<RunStore, NewRun> describe, Action<string> warn)
    {
        RunStore? store = null;
        try
        {
            store = RunStore.Open(path);
            return new LiveRun(store, store.Start(describe(store)), warn);
        }
        catch (Exception error) when (error is NibbleException or SqliteException)
        {
            store?.Dispose();
            warn(Text(error));
            return Unrecorded();
        }
    }

    /// <summary>Puts numbers aside; they are in the store soon after.</summary>
    public void Add(params ReadOnlySpan<RunMetric> metrics)
    {
        if (_store is null)
        {
            return;
        }

        lock (_queue)
        {
            _waiting.AddRange(metrics);
            if (_waiting.Count > MostWaiting)
            {
                _waiting.RemoveRange(0, _waiting.Count - MostWaiting);
            }

            _worked = true;
        }
    }

    /// <summary>Says how much is done, 0 to 1.</summary>
    public void Progress(double share)
    {
        lock (_queue)
        {
            (_progress, _changed, _worked) = (share, true, true);
        }
    }

    /// <summary>Runs the work and records how it ends: an exception as failed, a cancellation as interrupted. A run that did not get to work because of how it was called leaves no trace.</summary>
    public T While<T>(Func<T> work)
    {
        try
        {
            T result = work();
            Finish(RunEnd.Finished);
            return result;
        }
        catch (OperationCanceledException error)
        {
            Finish(RunEnd.Interrupted, error is WorkInterruptedException ? error.Message : null);
            throw;
        }
        catch (NibbleException error) when (error.Kind is ErrorKind.Usage or ErrorKind.NotFound && !_worked)
        {
            End(store => store.Remove(Id!.Value));
            throw;
        }
        catch (Exception error)
        {
            Finish(RunEnd.Failed, Text(error));
            throw;
        }
    }

    /// <summary>Writes what waits and notes the end; the first call counts.</summary>
    public void Finish(RunEnd end, string? note = null, IEnumerable<RunArtefact>? artefacts = null) => End(store =>
    {
        Flush(store);
        if (artefacts is not null)
        {
            store.Replace(Id!.Value, artefacts);
        }

        store.Finish(Id!.Value, end, note);
    });

    /// <summary>The files in a folder, with what lies in its folders.</summary>
    public static IEnumerable<RunArtefact> FilesOf(string folder) => Directory.Exists(folder)
        ? new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).OrderBy(file => file.FullName, StringComparer.Ordinal)
            .Select(file => new RunArtefact(Path.GetRelativePath(folder, file.FullName).Replace('\\', '/'), file.FullName, file.Length))
        : [];

    /// <summary>Ends a run that nobody ended as failed.</summary>
    public void Dispose()
    {
        Finish(RunEnd.Failed);
        _ending.Dispose();
        _store?.Dispose();
    }

    private void End(Action<RunStore> last)
    {
        if (_store is null || _ended)
        {
            return;
        }

        _ended = true;
        _ending.Set();
        // It may be in the middle of waiting for a locked file, which has a limit of its own.
        _writer!.Join(Patience);
        Attempt(last, isLast: true);
    }

    private void WriteOn()
    {
        while (!_ending.Wait(Pause))
        {
            Attempt(Flush);
        }
    }

    private void Attempt(Action<RunStore> write, bool isLast = false)
    {
        lock (_writing)
        {
            try
            {
                write(_store!);
            }
            catch (Exception error) when (error is SqliteException or NibbleException or IOException or UnauthorizedAccessException)
            {
                if (isLast)
                {
                    _warn?.Invoke($"the end of run {Id} cannot be recorded\n{Text(error)}\n'nibble runs' will call it lost; its results are where it wrote them");
                }
                else if (!_warned)
                {
                    _warned = true;
                    _warn?.Invoke($"run {Id} cannot be recorded for now\n{Text(error)}\nthe work goes on; it is tried again");
                }
            }
        }
    }

    private void Flush(RunStore store)
    {
        List<RunMetric> batch;
        double? progress;
        bool changed;
        lock (_queue)
        {
            (batch, progress, changed) = (_waiting, _progress, _changed);
            (_waiting, _changed) = ([], false);
        }

        try
        {
            if (batch.Count > 0)
            {
                store.Add(Id!.Value, batch);
            }

            if (changed || _lastBeat == 0 || Stopwatch.GetElapsedTime(_lastBeat) > BeatPause)
            {
                store.Beat(Id!.Value, progress);
                _lastBeat = Stopwatch.GetTimestamp();
            }
        }
        catch
        {
            lock (_queue)
            {
                // A number that is written twice replaces itself.
                _waiting = [.. batch, .. _waiting];
                _changed |= changed;
            }

            throw;
        }
    }

    private static string Text(Exception error) => error is NibbleException ? error.Message : $"{error.GetType().Name}: {error.Message}";
}
