using System.Net;
using System.Text.Json;
using Nibble.Data.Remote;
using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Hub;

/// <summary>Asks the Hub: what a model consists of, and for its files (huggingface.co/docs/hub/api; the routes <c>/api/models/…</c> and <c>/…/resolve/…</c>).</summary>
internal sealed class HubClient
{
    private const int LargestAnswer = 64 << 20;

    private readonly HubSettings _settings;
    private readonly RemoteClient _client;

    public HubClient(HubSettings settings)
    {
        _settings = settings;
        _client = new RemoteClient(settings.Token is { } token ? new BearerSigner(token) : null, Refusal);
    }

    /// <summary>What a model consists of.</summary>
    /// <exception cref="NibbleException">There is no such model or revision, it is not open to this user, or the Hub can't be reached.</exception>
    public HubRevision Read(HubName name)
    {
        if (_settings.Offline)
        {
            Throw.Usage($"{name} can't be asked for", "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set", "unset it to use the network");
        }

        Uri address = new(_settings.Endpoint, $"api/models/{name.Repository}/revision/{Uri.EscapeDataString(name.Revision)}?blobs=true");
        using HttpResponseMessage response = _client.Send(HttpMethod.Get, address, name.Repository);
        if (response.StatusCode != HttpStatusCode.OK)
        {
            throw Missing(response, name.Repository);
        }

        try
        {
            using JsonDocument answer = JsonDocument.Parse(Body(response, name));
            return Revision(answer.RootElement, name);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new NibbleException(ErrorKind.Network, $"what {_settings.Endpoint.Host} says of {name} can't be read", error.Message, "check HF_ENDPOINT", error);
        }
    }

    /// <summary>A file's content, to be read from any byte on.</summary>
    public DataObject Open(HubRevision revision, HubFile file)
    {
        string path = string.Join('/', file.Path.Split('/').Select(Uri.EscapeDataString));
        Uri address = new(_settings.Endpoint, $"{revision.Repository}/resolve/{revision.Commit}/{path}");
        DataObject found = HttpObject.Find(_client, address, $"{revision.Repository}/{file.Path}") ?? throw new NibbleException(
            ErrorKind.NotFound, $"{revision.Repository} has no file {file.Path}", "its list has one", "try again: the model may have changed");
        return found.Length == file.Bytes
            ? found
            : throw new NibbleException(ErrorKind.Network, $"{found.Name} has {found.Length:N0} bytes", $"the model's list says {file.Bytes:N0}", "try again, or another mirror (HF_ENDPOINT)");
    }

    private static byte[] Body(HttpResponseMessage response, HubName name)
    {
        using Stream stream = response.Content.ReadAsStream();
        using MemoryStream whole = new();
        byte[] buffer = new byte[1 << 16];
        for (int read; (read = stream.Read(buffer)) > 0;)
        {
            whole.Write(buffer, 0, read);
            if (whole.Length > LargestAnswer)
            {
                Throw.BadInput($"the list of {name}'s files is longer than {LargestAnswer:N0} bytes", "no model's is", "check HF_ENDPOINT");
            }
        }

        return whole.ToArray();
    }

    private static HubRevision Revision(JsonElement answer, HubName name)
    {
        string commit = answer.GetProperty("sha").GetString() ?? string.Empty;
        if (!HubCache.IsCommit(commit))
        {
            throw new FormatException($"sha is '{commit}', no commit");
        }

        // A model that was renamed answers under its old name too.
        string? now = answer.TryGetProperty("id", out JsonElement id) ? id.GetString() : null;
        return new HubRevision(name.Repository, now ?? name.Repository, commit, [.. answer.GetProperty("siblings").EnumerateArray().Select(File)]);
    }

    private static HubFile File(JsonElement entry)
    {
        string path = entry.GetProperty("rfilename").GetString() ?? string.Empty;
        // A path that leaves its folder would let an answer write anywhere.
        if (path.Split('/').Any(part => part.Length == 0 || part is "." or "..") || path.AsSpan().ContainsAny('\\', ':', '\0'))
        {
            throw new FormatException($"'{path}' is no path of a file");
        }

        bool isLarge = entry.TryGetProperty("lfs", out JsonElement lfs) && lfs.ValueKind == JsonValueKind.Object;
        string hash = (isLarge ? lfs.GetProperty("sha256") : entry.GetProperty("blobId")).GetString() ?? string.Empty;
        long bytes = (isLarge ? lfs : entry).GetProperty("size").GetInt64();
        return hash.Length == (isLarge ? 64 : 40) && hash.All(char.IsAsciiHexDigitLower) && bytes >= 0
            ? new HubFile(path, bytes, hash, isLarge)
            : throw new FormatException($"{path}: hash '{hash}' or size {bytes} is none");
    }

    private NibbleException? Refusal(HttpResponseMessage response, string name) => (int)response.StatusCode is 401 or 403 ? Missing(response, name) : null;

    // The Hub answers 401 for models that do not exist too, so that nobody learns which private ones do; X-Error-Code tells them apart.
    private NibbleException Missing(HttpResponseMessage response, string name)
    {
        string? code = Header(response, "X-Error-Code"), said = Header(response, "X-Error-Message");
        string token = _settings.Token is null ? "no access token is set" : "the access token has no right to it";
        string page = new Uri(_settings.Endpoint, name).AbsoluteUri;
        return code switch
        {
            "GatedRepo" => new NibbleException(ErrorKind.NotFound, $"{name} is given to those alone who accept its terms", said ?? token, $"accept them at {page}, then set HF_TOKEN to a token of that account"),
            "RevisionNotFound" => new NibbleException(ErrorKind.NotFound, $"{name} has no such revision", said, "look at its branches and tags on its page"),
            "EntryNotFound" => new NibbleException(ErrorKind.NotFound, $"{name} is not there", said, "look at the model's files on its page"),
            _ => new NibbleException(ErrorKind.NotFound, $"{_settings.Endpoint.Host} has no model {name}, or it is private", said ?? token, "check the name; for a private model set HF_TOKEN"),
        };
    }

    private static string? Header(HttpResponseMessage response, string name) => response.Headers.TryGetValues(name, out IEnumerable<string>? values) ? values.FirstOrDefault() : null;
}
