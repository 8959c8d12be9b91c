using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Nibble.Data.Remote;

/// <summary>
/// Signature version 4 of Amazon S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html), which Google's
/// XML interface takes as well for its HMAC keys.
/// </summary>
internal sealed class AwsSigner(string key, string secret, string? session, string region, TimeProvider clock) : IRequestSigner
{
    /// <summary>SHA-256 of nothing: the body of every request that reads.</summary>
    private const string EmptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// <inheritdoc/>
    public void Sign(HttpRequestMessage request)
    {
        string time = clock.GetUtcNow().ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture), day = time[..8];
        request.Headers.Host = request.RequestUri!.IsDefaultPort ? request.RequestUri.Host : request.RequestUri.Authority;
        request.Headers.Add("x-amz-content-sha256", EmptyHash);
        request.Headers.Add("x-amz-date", time);
        if (session is not null)
        {
            request.Headers.Add("x-amz-security-token", session);
        }

        (string Name, string Value)[] headers = [.. request.Headers
            .Where(header => header.Key.StartsWith("x-amz-", StringComparison.OrdinalIgnoreCase) || header.Key is "Host" or "Range")
            .Select(header => (header.Key.ToLowerInvariant(), string.Join(',', header.Value).Trim())).OrderBy(header => header.Item1, StringComparer.Ordinal)];
        string signed = string.Join(';', headers.Select(header => header.Name));
        string canonical = string.Join('\n', [
            request.Method.Method, request.RequestUri.AbsolutePath, Query(request.RequestUri.Query), .. headers.Select(header => $"{header.Name}:{header.Value}"), string.Empty, signed, EmptyHash]);
        string scope = $"{day}/{region}/s3/aws4_request";
        string text = $"AWS4-HMAC-SHA256\n{time}\n{scope}\n{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(canonical)))}";
        byte[] signing = new[] { region, "s3", "aws4_request" }.Aggregate(Mac(Encoding.UTF8.GetBytes("AWS4" + secret), day), Mac);
        request.Headers.TryAddWithoutValidation("Authorization", $"AWS4-HMAC-SHA256 Credential={key}/{scope},SignedHeaders={signed},Signature={Convert.ToHexStringLower(Mac(signing, text))}");
    }

    /// <summary>Parameters in the order of their names, as the signature wants them.</summary>
    private static string Query(string query) => string.Join('&', query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries)
        .Select(pair => pair.Contains('=', StringComparison.Ordinal) ? pair : pair + "=").Order(StringComparer.Ordinal));

    private static byte[] Mac(byte[] key, string text) => HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(text));
}

/// <summary>A token in the header, as Google's interfaces take it.</summary>
internal sealed class BearerSigner(string token) : IRequestSigner
{
    /// <inheritdoc/>
    public void Sign(HttpRequestMessage request) => request.Headers.Authorization = new System.Net.Http.Headers.AuthenticationHeaderValue("Bearer", token);
}
