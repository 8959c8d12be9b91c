using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Nibble.Tokenization;

/// <summary>A hash of what decides the tokens: vocabulary, merges with their order, added tokens with their flags.</summary>
internal static class TokenizerFingerprint
{
    /// <summary>SHA-256 as 64 hexadecimal digits.</summary>
    public static string Of(TokenizerParts parts, int size, Func<int, string?> text)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (int id = 0; id < size; id++)
        {
            if (text(id) is string token)
            {
                Number(hash, id);
                Text(hash, token);
            }
        }

        foreach ((int left, int right, int rank, _) in parts.Rules.Merges.Pairs().OrderBy(pair => pair.Rank).ThenBy(pair => pair.Left).ThenBy(pair => pair.Right))
        {
            Number(hash, rank);
            Number(hash, left);
            Number(hash, right);
        }

        foreach (AddedToken token in parts.Added.OrderBy(token => token.Id))
        {
            Number(hash, token.Id);
            Number(hash, (token.Special ? 1 : 0) | (token.Normalized ? 2 : 0) | (token.SingleWord ? 4 : 0) | (token.StripLeft ? 8 : 0) | (token.StripRight ? 16 : 0));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static void Number(IncrementalHash hash, int value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        hash.AppendData(bytes);
    }

    private static void Text(IncrementalHash hash, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Number(hash, bytes.Length);
        hash.AppendData(bytes);
    }
}
