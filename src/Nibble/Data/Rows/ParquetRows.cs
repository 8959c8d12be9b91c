using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Data.Rows;

/// <summary>Rows of Parquet.</summary>
internal static class ParquetRows
{
    /// <summary>All rows of a file.</summary>
    public static IEnumerable<RowRead> Read(DataObject file, Limits limits)
    {
        using Formats.Parquet.ParquetFile parquet = Open(file, limits);
        long place = 0;
        for (int group = 0; group < parquet.RowGroups.Count; group++)
        {
            foreach (IReadOnlyDictionary<string, object?> row in parquet.Rows(group))
            {
                yield return new RowRead(++place, row);
            }
        }
    }

    /// <summary>The rows of one group.</summary>
    public static IEnumerable<RowRead> Read(DataObject file, Limits limits, int group)
    {
        using Formats.Parquet.ParquetFile parquet = Open(file, limits);
        long place = parquet.RowGroups.Take(group).Sum(before => before.Rows);
        foreach (IReadOnlyDictionary<string, object?> row in parquet.Rows(group))
        {
            yield return new RowRead(++place, row);
        }
    }

    /// <summary>The file, its footer read.</summary>
    public static Formats.Parquet.ParquetFile Open(DataObject file, Limits limits) => Formats.Parquet.ParquetFile.Open(file.Name, file.Length, file.ReadAt, limits);
}
