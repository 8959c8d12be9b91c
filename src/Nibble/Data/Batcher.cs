using Nibble.Data.Streaming;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Data;

/// <summary>The order of rows and batches as a function of seed and step: any position can be reached without going through those before it.</summary>
/// <param name="data">All rows.</param>
/// <param name="batchSize">Rows of a pass.</param>
/// <param name="accumulation">Passes of a step.</param>
/// <param name="seed">Seed of the shuffle.</param>
internal sealed class Batcher(TrainingSet data, int batchSize, int accumulation, ulong seed) : IBatchSource
{
    private readonly IReadOnlyList<TrainingRow> _all = data.Rows;
    private long _shuffledEpoch = -1;
    private int[] _order = [];

    /// <summary>Steps of one epoch: the last one may have fewer rows.</summary>
    public int StepsPerEpoch => (_all.Count + RowsPerStep - 1) / RowsPerStep;

    int? IBatchSource.StepsPerEpoch => StepsPerEpoch;

    /// <inheritdoc/>
    public string Fingerprint => data.Fingerprint;

    /// <inheritdoc/>
    public StreamPosition? Position => null;

    private int RowsPerStep => batchSize * accumulation;

    /// <summary>Numbers of the rows of a step, counted from 0.</summary>
    public int[] RowsOf(int step)
    {
        Shuffle(step / StepsPerEpoch);
        return [.. _order.Skip(step % StepsPerEpoch * RowsPerStep).Take(RowsPerStep)];
    }

    /// <summary>The passes of a step.</summary>
    public IReadOnlyList<TrainingBatch> Batches(int step) => [.. RowsOf(step).Chunk(batchSize).Select(numbers => Pad([.. numbers.Select(number => _all[number])]))];

    /// <inheritdoc/>
    public string Describe(int step) => $"rows {string.Join(", ", RowsOf(step))} of the data";

    /// <inheritdoc/>
    public void GoTo(int step, StreamPosition? position)
    {
        // Any step can be had at any time.
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // The rows belong to who made them.
    }

    /// <summary>Rows of different lengths as one batch, padded on the right with unscored tokens.</summary>
    public static TrainingBatch Pad(IReadOnlyList<TrainingRow> rows)
    {
        int length = rows.Max(row => row.Ids.Length);
        int[] ids = new int[rows.Count * length], targets = new int[rows.Count * length];
        Array.Fill(targets, -1);
        for (int i = 0; i < rows.Count; i++)
        {
            rows[i].Ids.CopyTo(ids, i * length);
            rows[i].Targets.CopyTo(targets, i * length);
        }

        return new TrainingBatch(ids, targets, rows.Count, length) {
            Starts = rows.All(row => row.Starts.Count == 1) ? null : Starts(rows, length),
            Tokens = rows.Sum(row => row.Ids.Length),
        };
    }

    /// <summary>For each place the column where its text starts; padding belongs to the last text.</summary>
    private static int[] Starts(IReadOnlyList<TrainingRow> rows, int length)
    {
        int[] starts = new int[rows.Count * length];
        for (int row = 0; row < rows.Count; row++)
        {
            foreach (int start in rows[row].Starts)
            {
                Array.Fill(starts, start, (row * length) + start, length - start);
            }
        }

        return starts;
    }

    private void Shuffle(long epoch)
    {
        if (epoch == _shuffledEpoch)
        {
            return;
        }

        _shuffledEpoch = epoch;
        _order = [.. Enumerable.Range(0, _all.Count)];
        CounterRandom.Shuffle(_order.AsSpan(), CounterRandom.Key(seed, (ulong)epoch));
    }
}
