using System.Text.Encodings.Web;
using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Certificates;

/// <summary>The highest logit of one position of the prompt.</summary>
/// <param name="Token">Whose it is.</param>
/// <param name="Logit">Its value.</param>
public sealed record BestLogit(int Token, float Logit);

/// <summary>
/// What an export says about itself: which model it was made from, that its files are these, and how far its logits are from the source's on
/// a fixed prompt. Anybody can compute all of it again (<c>nibble convert --verify</c>).
/// </summary>
public sealed record Certificate
{
    /// <summary>Its name in a folder.</summary>
    public const string FileName = "nibble_certificate.json";

    private static readonly JsonSerializerOptions Json = DocumentJson.Known(new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        RespectRequiredConstructorParameters = true,
    });

    /// <summary>Version of this document.</summary>
    public int Schema { get; init; } = 1;

    /// <summary>Name of the source's folder or file, without the folders it stands in.</summary>
    public required string Source { get; init; }

    /// <summary><see cref="ModelHash"/> of the source.</summary>
    public required string SourceSha256 { get; init; }

    /// <summary><see cref="ModelHash"/> of the export.</summary>
    public required string OutputSha256 { get; init; }

    /// <summary>The prompt, in tokens of the model.</summary>
    public required IReadOnlyList<int> Prompt { get; init; }

    /// <summary>Largest |logit of the export − logit of the source| over all positions and tokens.</summary>
    public required double LargestLogitDifference { get; init; }

    /// <summary>Largest less smallest logit of the source on the prompt: what the difference is to be compared with.</summary>
    public required double LogitRange { get; init; }

    /// <summary>Positions at which both find the same token most likely.</summary>
    public required int SameBest { get; init; }

    /// <summary>The export's highest logits, so that its half can be checked without the source.</summary>
    public required IReadOnlyList<BestLogit> Best { get; init; }

    /// <summary>The kernel variant that computed this; another one rounds otherwise.</summary>
    public required string Kernels { get; init; }

    /// <summary>Where the certificate of an export stands: inside a folder, beside a file.</summary>
    public static string PathOf(string export) => GgufFile.Names(export) && !Directory.Exists(export) ? export + ".certificate.json" : Path.Combine(export, FileName);

    /// <summary>Writes the certificate of an export.</summary>
    public void Write(string export) => AtomicFile.WriteAllText(PathOf(export), DocumentJson.Text(this, Json) + "\n");

    /// <summary>Reads the certificate of an export.</summary>
    /// <exception cref="NibbleException">There is none, or it is damaged.</exception>
    public static Certificate Read(string export)
    {
        string path = PathOf(export);
        if (!File.Exists(path))
        {
            Throw.NotFound($"{export} has no certificate", $"{path} does not exist", "verify what nibble quantize or nibble convert wrote");
        }

        return JsonText.Read(
            path,
            root => DocumentJson.Read<Certificate>(root, Json) is { Schema: 1, Prompt.Count: > 0 } read && read.Best.Count == read.Prompt.Count ? read : throw new JsonException("not a certificate of schema 1"),
            "make the export again");
    }
}
