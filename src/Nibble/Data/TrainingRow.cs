using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Nibble.Data;

/// <summary>One row to train on: tokens, and for each the token that follows, or −1 where nothing is scored.</summary>
/// <param name="Ids">Tokens.</param>
/// <param name="Targets">What follows each token.</param>
public sealed record TrainingRow(int[] Ids, int[] Targets)
{
    /// <summary>Where the texts of the row start, first 0: a token sees its own text only, and positions start again with each.</summary>
    public IReadOnlyList<int> Starts { get; init; } = [0];

    /// <summary>Positions that are scored.</summary>
    public int ScoredTokens => Targets.Count(target => target >= 0);
}

/// <summary>Rows from a file, and what was done to get them.</summary>
/// <param name="Rows">The rows, in the order of the file.</param>
/// <param name="Documents">Texts or examples read.</param>
/// <param name="Truncated">Examples that were longer than a row and were cut.</param>
/// <param name="Skipped">Rows of the file that could not be used.</param>
public sealed record TrainingSet(IReadOnlyList<TrainingRow> Rows, int Documents, int Truncated = 0, int Skipped = 0)
{
    private string? _fingerprint;

    /// <summary>SHA-256 of all rows in hexadecimal digits: a training can only go on with the same ones.</summary>
    public string Fingerprint => _fingerprint ??= Hash();

    /// <summary>Positions that are scored, over all rows.</summary>
    public long ScoredTokens => Rows is SpooledRows spooled ? spooled.ScoredTokens : Rows.Sum(row => (long)row.ScoredTokens);

    private string Hash()
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (TrainingRow row in Rows)
        {
            hash.AppendData(BitConverter.GetBytes(row.Ids.Length));
            hash.AppendData(MemoryMarshal.AsBytes(row.Ids.AsSpan()));
            hash.AppendData(MemoryMarshal.AsBytes(row.Targets.AsSpan()));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
