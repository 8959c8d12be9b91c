using Nibble.Evaluation.Protocols;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Evaluation.Texts;

/// <summary>One sequence of tokens, and the bytes of text that each token stands for (control tokens: none).</summary>
/// <param name="Ids">Tokens.</param>
/// <param name="Bytes">Bytes of each token.</param>
public sealed record TokenSequence(int[] Ids, int[] Bytes);

/// <summary>A text as the tokens that a protocol runs over.</summary>
/// <param name="Sequences">Pieces that were tokenized on their own.</param>
/// <param name="BosId">What a protocol puts in place of a block's first token; null where the tokenizer adds no BOS.</param>
/// <param name="Tokenizer">The tokenizer's fingerprint.</param>
public sealed record TokenizedText(IReadOnlyList<TokenSequence> Sequences, int? BosId, string Tokenizer)
{
    /// <summary>Tokens of all sequences.</summary>
    public long Tokens => Sequences.Sum(sequence => (long)sequence.Ids.Length);

    /// <summary>Tokenizes what <paramref name="protocol"/> needs: at most <paramref name="limit"/> tokens of the text's beginning.</summary>
    public static TokenizedText Create(EvaluationText text, Protocol protocol, TextJoin join, Tokenizer tokenizer, int? limit = null)
    {
        List<TokenSequence> sequences = [];
        int left = limit ?? int.MaxValue;
        foreach (string piece in text.Pieces(protocol.Unit, join))
        {
            string beginning = Beginning(piece, left);
            int[] ids = tokenizer.Encode(beginning);
            ids = ids.Length < left && beginning.Length < piece.Length ? tokenizer.Encode(piece) : ids;
            ids = ids.Length > left ? ids[..left] : ids;
            sequences.Add(new TokenSequence(ids, ByteLengths(tokenizer, ids)));
            left -= ids.Length;
            if (left <= 0)
            {
                break;
            }
        }

        return new TokenizedText(sequences, tokenizer.AddsBos ? tokenizer.BosId : null, tokenizer.Fingerprint);
    }

    // Enough characters for the tokens asked for, so that a limit saves the work on the rest; cut where a line ends.
    private static string Beginning(string piece, int tokens)
    {
        const int MostCharactersPerToken = 64;
        long enough = ((long)tokens * MostCharactersPerToken) + 1024;
        if (piece.Length <= enough)
        {
            return piece;
        }

        int end = piece.IndexOf('\n', (int)enough);
        return end < 0 ? piece : piece[..end];
    }

    private static int[] ByteLengths(Tokenizer tokenizer, int[] ids)
    {
        DecodePosition position = default;
        int[] lengths = new int[ids.Length];
        for (int i = 0; i < ids.Length; i++)
        {
            int length = tokenizer.Bytes(ids[i], ref position).Length;
            lengths[i] = tokenizer.IsSpecial(ids[i]) ? 0 : length;
        }

        return lengths;
    }

    /// <summary>Refuses tokens that the model has no embedding for.</summary>
    public void RequireVocabulary(int vocabulary)
    {
        int largest = Sequences.Count == 0 ? -1 : Sequences.Max(sequence => sequence.Ids.Length == 0 ? -1 : sequence.Ids.Max());
        if (largest >= vocabulary)
        {
            Throw.BadInput(
                $"token {largest:N0} is not in the model's vocabulary of {vocabulary:N0}",
                "the tokenizer belongs to another model",
                "use the tokenizer files of this model");
        }
    }
}
