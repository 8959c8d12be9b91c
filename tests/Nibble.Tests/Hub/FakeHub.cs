using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Nibble.Hub;
using Nibble.Server;

namespace Nibble.Tests.Hub;

/// <summary>
/// The Hub's routes that a download needs, as huggingface_hub 1.29 uses them: <c>/api/models/ID/revision/R?blobs=true</c>, <c>/ID/resolve/COMMIT/PATH</c>,
/// which sends large files to another server. It can ask for a token, cut connections, damage content and answer for hostile models.
/// </summary>
internal sealed class FakeHub : IDisposable
{
    public const string Commit = "0123456789abcdef0123456789abcdef01234567";

    private readonly WebApplication _hub = LocalServer.Create(new ListenAddress(Port: 0), 1 << 20);
    private readonly WebApplication _store = LocalServer.Create(new ListenAddress(Port: 0), 1 << 20);
    private readonly ConcurrentDictionary<string, bool> _expired = new();
    private int _cuts, _sent, _links;

    public FakeHub(string cache)
    {
        _hub.Run(Answer);
        _store.Run(context => Send(context, Contents[context.Request.Path.Value![1..]]));
        _hub.StartAsync().GetAwaiter().GetResult();
        _store.StartAsync().GetAwaiter().GetResult();
        Settings = new HubSettings(LocalServer.AddressOf(_hub), cache);
    }

    public HubSettings Settings { get; set; }

    /// <summary>Files of the one model by path; those of over 1,000 bytes are large.</summary>
    public Dictionary<string, byte[]> Files { get; } = [];

    /// <summary>Contents of large files by hash.</summary>
    public ConcurrentDictionary<string, byte[]> Contents { get; } = new();

    /// <summary>Requests: their server, path with range, and authorization.</summary>
    public ConcurrentQueue<(string Server, string What, string? Token)> Requests { get; } = new();

    public string Sha { get; set; } = Commit;

    /// <summary>Token that is asked for.</summary>
    public string? Token { get; set; }

    /// <summary>Status and X-Error-Code of every answer about the model.</summary>
    public (int Status, string Code)? Refuses { get; set; }

    /// <summary>The whole answer about the model instead of the right one.</summary>
    public string? Says { get; set; }

    /// <summary>So many of the next contents are cut in half.</summary>
    public int Cuts { set => _cuts = value; }

    /// <summary>Links to the server of large files are refused once a content of theirs was cut, as the Hub's are after an hour.</summary>
    public bool LinksExpire { get; set; }

    /// <summary>The next contents have another byte in their middle.</summary>
    public bool Damages { get; set; }

    /// <summary>Waited for before a large content, by how many were sent before.</summary>
    public Func<int, Task> Gate { get; set; } = _ => Task.CompletedTask;

    public void Dispose()
    {
        using CancellationTokenSource now = new(TimeSpan.FromSeconds(1));
        Task.WaitAll(_hub.StopAsync(now.Token), _store.StopAsync(now.Token));
        ((IDisposable)_hub).Dispose();
        ((IDisposable)_store).Dispose();
    }

    public static string Sha256(byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content));

    public static string GitSha1(byte[] content) => Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {content.Length}\0"), .. content]));

    private static bool IsLarge(byte[] content) => content.Length > 1000;

    private async Task Answer(HttpContext context)
    {
        string path = context.Request.Path.Value!;
        string? token = context.Request.Headers.Authorization.FirstOrDefault();
        Requests.Enqueue(("hub", path + " " + context.Request.Headers.Range, token));
        if (Refuses is { } refusal || (Token is not null && token != "Bearer " + Token))
        {
            (context.Response.StatusCode, string code) = Refuses ?? (401, "GatedRepo");
            context.Response.Headers["X-Error-Code"] = code;
            context.Response.Headers["X-Error-Message"] = "said by the server";
        }
        else if (path.StartsWith("/api/models/old/", StringComparison.Ordinal))
        {
            context.Response.Redirect(path.Replace("/old/", "/org/", StringComparison.Ordinal) + context.Request.QueryString);
            context.Response.StatusCode = 307;
        }
        else if (path.StartsWith("/api/models/org/", StringComparison.Ordinal))
        {
            await context.Response.WriteAsync(Says ?? Describe());
        }
        else if (path.Split("/resolve/") is [_, var rest] && Files.TryGetValue(rest.Split('/', 2)[1], out byte[]? content))
        {
            if (!IsLarge(content))
            {
                await Send(context, content);
                return;
            }

            Contents[Sha256(content)] = content;
            context.Response.Headers["X-Linked-Etag"] = $"\"{Sha256(content)}\"";
            context.Response.Redirect($"{LocalServer.AddressOf(_store)}{Sha256(content)}?link={Interlocked.Increment(ref _links)}");
        }
        else
        {
            context.Response.StatusCode = 404;
        }
    }

    private string Describe() => $$"""
        {"id": "org/name", "sha": "{{Sha}}", "siblings": [{{string.Join(", ", Files.Select(file =>
            $"{{\"rfilename\": \"{file.Key}\", \"size\": {file.Value.Length}, \"blobId\": \"{GitSha1(file.Value)}\"" +
            (IsLarge(file.Value) ? $", \"lfs\": {{\"sha256\": \"{Sha256(file.Value)}\", \"size\": {file.Value.Length}, \"pointerSize\": 134}}" : string.Empty) + "}"))}}]}
        """;

    private async Task Send(HttpContext context, byte[] content)
    {
        if (context.Connection.LocalPort == LocalServer.AddressOf(_store).Port)
        {
            Requests.Enqueue(("store", context.Request.Path.Value + " " + context.Request.Headers.Range, context.Request.Headers.Authorization.FirstOrDefault()));
        }

        string link = context.Request.QueryString.ToString();
        if (_expired.ContainsKey(link))
        {
            context.Response.StatusCode = 403;
            return;
        }

        bool isLarge = IsLarge(content) && context.Request.Headers.Range != "bytes=0-0";
        if (isLarge)
        {
            await Gate(Interlocked.Increment(ref _sent) - 1);
        }

        byte[] sent = [.. content];
        sent[sent.Length / 2] ^= (byte)(Damages ? 1 : 0);
        int from = context.Request.GetTypedHeaders().Range?.Ranges.First().From is { } start ? (int)start : 0;
        if (isLarge && Interlocked.Decrement(ref _cuts) >= 0)
        {
            context.Response.StatusCode = 206;
            context.Response.Headers.ContentRange = $"bytes {from}-{sent.Length - 1}/{sent.Length}";
            context.Response.ContentLength = sent.Length - from;
            await context.Response.Body.WriteAsync(sent.AsMemory(from, (sent.Length - from) / 2));
            await context.Response.Body.FlushAsync();
            // What was written should arrive before the connection breaks.
            await Task.Delay(100);
            _expired[LinksExpire ? link : "none"] = true;
            context.Abort();
            return;
        }

        await Results.Bytes(sent, enableRangeProcessing: true).ExecuteAsync(context);
    }
}
