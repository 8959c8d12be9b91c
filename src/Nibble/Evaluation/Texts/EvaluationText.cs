using System.Security.Cryptography;
using System.Text;
using Nibble.Evaluation.Protocols;

namespace Nibble.Evaluation.Texts;

/// <summary>A text to measure on: rows, and how they belong together.</summary>
/// <param name="Name">What the user named: <c>demo</c>, a file, a folder.</param>
/// <param name="Documents">Rows: the lines of WikiText-2, the rows of a .jsonl file, the files of a folder, or one whole file.</param>
/// <param name="Join">How rows are joined where the user says nothing.</param>
public sealed record EvaluationText(string Name, IReadOnlyList<string> Documents, TextJoin Join)
{
    /// <summary>SHA-256 of the rows in hexadecimal digits: two numbers compare only if it is equal.</summary>
    public string Fingerprint { get; } = Hash(Documents);

    /// <summary>The pieces that a protocol tokenizes on their own.</summary>
    public IEnumerable<string> Pieces(TextUnit unit, TextJoin join) => unit switch
    {
        TextUnit.Line => Documents.SelectMany(document => document.Split('\n')).Select(line => line.TrimEnd('\r')).Where(line => !string.IsNullOrWhiteSpace(line)),
        TextUnit.Document => Documents.Where(document => !string.IsNullOrWhiteSpace(document)),
        _ => [string.Join(join == TextJoin.Hf ? "\n\n" : string.Empty, join == TextJoin.Hf && Documents.Count == 1 ? Rows(Documents[0]) : Documents)],
    };

    /// <summary>
    /// Lines as the rows of a Hugging Face text data set: a line with its newline, or nothing if it is blank. What the papers'
    /// WikiText-2 numbers are made of.
    /// </summary>
    public static IReadOnlyList<string> Rows(string text)
    {
        string[] lines = text.Split('\n');
        int count = lines[^1].Length == 0 ? lines.Length - 1 : lines.Length;
        return [.. lines.Take(count).Select(line => string.IsNullOrWhiteSpace(line) ? string.Empty : line + "\n")];
    }

    private static string Hash(IReadOnlyList<string> documents)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string document in documents)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(document);
            if (documents.Count > 1)
            {
                // Where a row ends is part of the text. A single file's hash is what sha256sum prints.
                hash.AppendData(BitConverter.GetBytes(bytes.LongLength));
            }

            hash.AppendData(bytes);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
