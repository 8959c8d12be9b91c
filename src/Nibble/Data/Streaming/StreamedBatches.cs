using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using Nibble.IO;
using Nibble.Tuning;

namespace Nibble.Data.Streaming;

/// <summary>
/// Batches from data that is read while the training runs: a thread reads, tokenizes and shuffles ahead of it, at most a window and
/// a few steps. What a step gets depends on the position alone, never on who is faster.
/// </summary>
internal sealed class StreamedBatches : IBatchSource
{
    /// <summary>Steps that wait for the training.</summary>
    private const int StepsAhead = 8;

    private readonly StreamUnits _units;
    private readonly StreamSettings _settings;
    private readonly int _batchSize, _rowsPerStep;
    private readonly CancellationTokenSource _stop = new();
    private BlockingCollection<Step>? _ahead;
    private Task? _reader;
    private ExceptionDispatchInfo? _failure;

    public StreamedBatches(DataSet set, StreamSettings settings, int batchSize, int accumulation)
    {
        (_settings, _batchSize, _rowsPerStep) = (settings, batchSize, batchSize * accumulation);
        _units = new StreamUnits(set, settings.Options.Limits);
    }

    /// <inheritdoc/>
    public int? StepsPerEpoch => null;

    /// <inheritdoc/>
    public string Fingerprint => "stream-" + _units.Fingerprint;

    /// <inheritdoc/>
    public StreamPosition? Position { get; private set; } = StreamPosition.Start;

    /// <summary>Rows of files that were left out, and examples that were cut, among those that reached the training.</summary>
    public (int Skipped, int Truncated) Counts { get; private set; }

    /// <inheritdoc/>
    public void GoTo(int step, StreamPosition? position)
    {
        if (_reader is not null || position is null)
        {
            Throw.Failed("this stream can't go to another place", "it has begun already, or the place is not known", "start without --resume");
        }

        Position = position;
    }

    /// <inheritdoc/>
    public IReadOnlyList<TrainingBatch> Batches(int step)
    {
        if (_ahead is null)
        {
            _ahead = new BlockingCollection<Step>(StepsAhead);
            _reader = Task.Factory.StartNew(Read, _stop.Token, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }

        try
        {
            Step next = _ahead.Take();
            (Position, Counts) = (next.After, next.Counts);
            return next.Batches;
        }
        catch (InvalidOperationException)
        {
            // The reader ends only by an error; what it had read before was given out first.
            _failure!.Throw();
            throw;
        }
    }

    /// <inheritdoc/>
    public string Describe(int step) => $"rows {Position!.Given - _rowsPerStep + 1:N0} to {Position.Given:N0} of the stream, epoch {Position.Epoch + 1}";

    /// <inheritdoc/>
    public void Dispose()
    {
        _stop.Cancel();
        // It may stand in a read from a slow server; nothing waits for that.
        if (_reader is null || _reader.Wait(TimeSpan.FromSeconds(1)))
        {
            _ahead?.Dispose();
            _stop.Dispose();
        }
    }

    private void Read()
    {
        try
        {
            foreach (Step step in Steps(Position!))
            {
                _ahead!.Add(step, _stop.Token);
            }
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            // The training has ended.
        }
#pragma warning disable CA1031 // Whatever it is, the training's own thread throws it.
        catch (Exception error)
#pragma warning restore CA1031
        {
            _failure = ExceptionDispatchInfo.Capture(error);
        }
        finally
        {
            _ahead!.CompleteAdding();
        }
    }

    private IEnumerable<Step> Steps(StreamPosition from)
    {
        List<TrainingRow> rows = [];
        (int Skipped, int Truncated) counts = (0, 0);
        long given = from.Given;
        int first = from.Row;
        foreach (TokenWindow window in TokenWindows.From(_units, _settings, from))
        {
            counts = (counts.Skipped + window.Skipped, counts.Truncated + window.Truncated);
            for (int row = first; row < window.Rows.Length; row++)
            {
                rows.Add(window.Rows[row]);
                given++;
                if (rows.Count == _rowsPerStep)
                {
                    TrainingBatch[] batches = [.. rows.Chunk(_batchSize).Select(Batcher.Pad)];
                    yield return new Step(batches, window.Start with { Row = row + 1, Given = given }, counts);
                    rows.Clear();
                }
            }

            first = 0;
        }
    }

    private sealed record Step(TrainingBatch[] Batches, StreamPosition After, (int Skipped, int Truncated) Counts);
}
