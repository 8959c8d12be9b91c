using System.Security.Cryptography;
using System.Text;
using Nibble.Data.Rows;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Data.Streaming;

/// <summary>The units of a data set, in the order of its files, and their order in an epoch.</summary>
internal sealed class StreamUnits
{
    /// <summary>Bytes of a unit, where a file can be read from anywhere.</summary>
    private const long UnitBytes = 1 << 19;

    /// <summary>Of more Parquet files than these the footers are not read beforehand: each file is a unit.</summary>
    private const int MostFooters = 64;

    private readonly Limits _limits;
    private readonly DataSet _set;
    private readonly List<StreamUnit> _units = [];

    public StreamUnits(DataSet set, Limits limits)
    {
        (_set, _limits) = (set, limits);
        foreach (RowFile file in set.Files)
        {
            _units.AddRange(Of(file));
        }
    }

    /// <summary>How many.</summary>
    public int Count => _units.Count;

    /// <summary>What must be the same for a stream to go on: files and their sizes.</summary>
    public string Fingerprint => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(
        string.Join('\n', _set.Files.Select(file => $"{file.Source.Name} {file.Source.Length}").Prepend($"{UnitBytes} {_units.Count}")))));

    /// <summary>All units in the order of an epoch: a permutation that is a function of seed and epoch.</summary>
    public StreamUnit[] Order(ulong seed, int epoch)
    {
        StreamUnit[] order = [.. _units];
        CounterRandom.Shuffle(order.AsSpan(), CounterRandom.Key(seed, (ulong)epoch));
        return order;
    }

    private IEnumerable<StreamUnit> Of(RowFile file)
    {
        bool lines = _set.Named?.Set == "tweeteval";
        if (file.Form == FileForm.Parquet && _set.Files.Count <= MostFooters)
        {
            using Formats.Parquet.ParquetFile parquet = ParquetRows.Open(file.Source, _limits);
            return [.. Enumerable.Range(0, parquet.RowGroups.Count).Select(group => new RowGroupUnit(file, group, _limits))];
        }

        return file.IsGzip || lines || file.Form is not (FileForm.JsonLines or FileForm.Text) ? [new WholeFile(_set, file)] : Ranges(file);
    }

    private IEnumerable<StreamUnit> Ranges(RowFile file)
    {
        for (long from = 0; from < file.Source.Length; from += UnitBytes)
        {
            long to = Math.Min(from + UnitBytes, file.Source.Length);
            yield return file.Form == FileForm.Text ? new TextUnit(file, from, to) : new LinesUnit(file, from, to, _limits);
        }
    }
}
