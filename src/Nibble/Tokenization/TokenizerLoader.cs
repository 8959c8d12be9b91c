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
        Throw.BadInput($"{path}: this form of tokenizer is not read yet");
        return null!;
    }
}
