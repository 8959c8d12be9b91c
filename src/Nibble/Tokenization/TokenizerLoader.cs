using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>Finds and reads a tokenizer in any of the forms that model folders come with.</summary>
public static class TokenizerLoader
{
    /// <summary>Reads the tokenizer of a model folder.</summary>
    /// <exception cref="NibbleException">There is none (all names that were looked for are listed), or it is damaged.</exception>
    public static Tokenizer FromFolder(string folder, Limits? limits = null)
    {
        foreach (string name in new[] { "tokenizer.json", "tokenizer.model", "vocab.json" })
        {
            string path = Path.Combine(folder, name);
            if (File.Exists(path))
            {
                return FromFile(path, limits);
            }
        }

        Throw.NotFound(
            $"{folder} has no tokenizer",
            "looked for tokenizer.json; tokenizer.model (SentencePiece or tiktoken); vocab.json with merges.txt",
            "copy the tokenizer files of the original model into the folder");
        return null!;
    }

    /// <summary>Reads a tokenizer file: <c>tokenizer.json</c>, <c>tokenizer.model</c>, tiktoken ranks, or <c>vocab.json</c> with <c>merges.txt</c> beside it.</summary>
    public static Tokenizer FromFile(string path, Limits? limits = null)
    {
        limits ??= Limits.Default;
        string name = Path.GetFileName(path);
        if (name is "vocab.json" or "merges.txt")
        {
            return VocabMergesTokenizer.Read(Path.GetDirectoryName(Path.GetFullPath(path))!, limits);
        }

        return name.EndsWith(".json", StringComparison.OrdinalIgnoreCase) ? TokenizerJson.Read(path, limits) : FromModel(path, limits);
    }

    /// <summary>Two formats share the name <c>tokenizer.model</c>; their first bytes tell them apart.</summary>
    private static Tokenizer FromModel(string path, Limits limits)
    {
        using MappedFile map = MappedFile.Open(path);
        if (map.ByteLength > Math.Min(limits.JsonBytes, int.MaxValue))
        {
            Throw.BadInput($"{path} is too large", $"{map.ByteLength:N0} bytes, at most {limits.JsonBytes:N0} are read");
        }

        ReadOnlySpan<byte> bytes = map.Span(0, (int)map.ByteLength);
        if (bytes.Length > 0 && bytes[0] == 0x0A)
        {
            return SentencePieceTokenizer.Read(path, bytes, limits);
        }

        if (!TiktokenTokenizer.Looks(bytes))
        {
            Throw.BadInput(
                $"{path} is no known tokenizer",
                map.ByteLength == 0 ? "the file is empty" : "neither a SentencePiece model nor tiktoken ranks",
                "download the file again (a Git LFS pointer is a small text file in its place)");
        }

        return TiktokenTokenizer.Read(path, bytes, limits);
    }
}
