using System.Text.Json;
using Nibble.IO;

namespace Nibble.Data.Remote;

/// <summary>
/// Google Cloud Storage by its JSON interface. <c>GOOGLE_OAUTH_ACCESS_TOKEN</c> (or <c>CLOUDSDK_AUTH_ACCESS_TOKEN</c>) is sent as a token;
/// <c>GCS_ACCESS_KEY_ID</c> and <c>GCS_SECRET_ACCESS_KEY</c> are HMAC keys; without either objects are read as public.
/// <c>STORAGE_EMULATOR_HOST</c> is another server.
/// </summary>
internal sealed class GoogleStore : ObjectStore
{
    private readonly string _root;

    private GoogleStore(RemoteClient client, string bucket, string root)
        : base(client, "gs", bucket) => _root = root;

    /// <summary>The bucket, by the variables of the environment.</summary>
    public static ObjectStore Open(string bucket)
    {
        string endpoint = S3Store.Variable("STORAGE_EMULATOR_HOST") ?? "https://storage.googleapis.com";
        endpoint = endpoint.Contains("://", StringComparison.Ordinal) ? endpoint.TrimEnd('/') : "http://" + endpoint.TrimEnd('/');
        string? token = S3Store.Variable("GOOGLE_OAUTH_ACCESS_TOKEN") ?? S3Store.Variable("CLOUDSDK_AUTH_ACCESS_TOKEN");
        if (token is null && S3Store.Variable("GCS_ACCESS_KEY_ID") is { } key && S3Store.Variable("GCS_SECRET_ACCESS_KEY") is { } secret)
        {
            return S3Store.OpenGoogle(bucket, endpoint, key, secret);
        }

        return new GoogleStore(new RemoteClient(token is null ? null : new BearerSigner(token.Trim())), bucket, $"{endpoint}/storage/v1/b/{bucket}/o");
    }

    /// <inheritdoc/>
    protected override Uri AddressOf(string key) => new($"{_root}/{Escape(key, keepSlashes: false)}?alt=media");

    /// <inheritdoc/>
    protected override Uri ListAddress(string prefix, string? next) =>
        new($"{_root}?prefix={Escape(prefix, keepSlashes: false)}{(next is null ? string.Empty : $"&pageToken={Escape(next, keepSlashes: false)}")}");

    /// <inheritdoc/>
    protected override string? ReadList(Stream body, List<string> keys)
    {
        try
        {
            using JsonDocument page = JsonDocument.Parse(body);
            if (page.RootElement.TryGetProperty("items", out JsonElement items))
            {
                keys.AddRange(items.EnumerateArray().Select(one => one.GetProperty("name").GetString()!));
            }

            return page.RootElement.TryGetProperty("nextPageToken", out JsonElement next) ? next.GetString() : null;
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new NibbleException(ErrorKind.Network, $"the list of {NameOf(string.Empty)} can't be read", error.Message, "check the endpoint", error);
        }
    }
}
