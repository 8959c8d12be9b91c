using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Nibble.Tests.Data;

/// <summary>
/// A small server on this machine: plain files, S3's interface (<c>/BUCKET/KEY</c>, lists in XML) and Google's (<c>/storage/v1/b/BUCKET/o</c>, lists in
/// JSON), with ranges; lists have two keys a page. It can fail a number of times, and cut connections.
/// </summary>
internal sealed class ObjectServer : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private int _failures;

    public ObjectServer()
    {
        _listener.Start();
        _ = Task.Run(AcceptAll);
    }

    /// <summary>Objects by key; all buckets hold the same.</summary>
    public SortedDictionary<string, byte[]> Objects { get; } = new(StringComparer.Ordinal);

    /// <summary>Requests that came: their first line and headers.</summary>
    public ConcurrentQueue<string> Requests { get; } = new();

    public string Address => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    /// <summary>So many of the next requests are answered by 503.</summary>
    public void Fail(int times) => Interlocked.Exchange(ref _failures, times);

    /// <summary>Where requests are sent on to; null answers them here.</summary>
    public string? Elsewhere { get; set; }

    /// <summary>Answers of more bytes than this end early, without a word; 0 for never.</summary>
    public int CutAfter { get; set; }

    /// <summary>Where an answer was cut nothing is said for so long, and the connection stays open.</summary>
    public TimeSpan Silence { get; set; }

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Dispose();
    }

    private async Task AcceptAll()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                TcpClient client = await _listener.AcceptTcpClientAsync(_stop.Token);
                _ = Task.Run(() => Serve(client));
            }
            catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                return;
            }
        }
    }

    private void Serve(TcpClient client)
    {
        using (client)
        using (NetworkStream stream = client.GetStream())
        {
            StreamReader reader = new(stream, Encoding.ASCII);
            string first = reader.ReadLine() ?? string.Empty;
            List<string> headers = [];
            for (string? line = reader.ReadLine(); !string.IsNullOrEmpty(line); line = reader.ReadLine())
            {
                headers.Add(line);
            }

            Requests.Enqueue(first + "\n" + string.Join('\n', headers));
            if (Interlocked.Decrement(ref _failures) >= 0)
            {
                Write(stream, "503 Busy", string.Empty, "later"u8.ToArray());
                return;
            }

            if (Elsewhere is not null)
            {
                Write(stream, "307 Elsewhere", $"Location: {Elsewhere}{first.Split(' ')[1]}\r\n", []);
                return;
            }

            Answer(stream, first.Split(' ')[1], headers.FirstOrDefault(line => line.StartsWith("Range: bytes=", StringComparison.OrdinalIgnoreCase))?["Range: bytes=".Length..]);
        }
    }

    private void Answer(Stream stream, string target, string? range)
    {
        string path = target.Split('?')[0];
        Dictionary<string, string> query = target.Contains('?', StringComparison.Ordinal)
            ? target.Split('?')[1].Split('&').Select(pair => pair.Split('=')).ToDictionary(pair => pair[0], pair => Uri.UnescapeDataString(pair.Length > 1 ? pair[1] : string.Empty))
            : [];
        bool google = path.StartsWith("/storage/v1/b/", StringComparison.Ordinal);
        string[] parts = google ? path["/storage/v1/b/".Length..].Split("/o", 2) : path[1..].Split('/', 2);
        string key = parts.Length > 1 ? Uri.UnescapeDataString(parts[1].TrimStart('/')) : string.Empty;
        if (key.Length == 0 && query.TryGetValue("prefix", out string? prefix))
        {
            Write(stream, "200 OK", string.Empty, Encoding.UTF8.GetBytes(google ? GoogleList(prefix, query) : S3List(prefix, query)));
        }
        else if (!Objects.TryGetValue(key, out byte[]? content))
        {
            Write(stream, "404 Not Found", string.Empty, []);
        }
        else
        {
            Send(stream, content, range);
        }
    }

    private void Send(Stream stream, byte[] content, string? range)
    {
        if (range is null)
        {
            Write(stream, "200 OK", string.Empty, content);
            return;
        }

        string[] ends = range.Split('-');
        int from = int.Parse(ends[0], CultureInfo.InvariantCulture), to = Math.Min(ends[1].Length > 0 ? int.Parse(ends[1], CultureInfo.InvariantCulture) : content.Length - 1, content.Length - 1);
        if (from >= content.Length)
        {
            Write(stream, "416 Range Not Satisfiable", $"Content-Range: bytes */{content.Length}\r\n", []);
            return;
        }

        Write(stream, "206 Partial Content", $"Content-Range: bytes {from}-{to}/{content.Length}\r\nETag: \"v1\"\r\n", content[from..(to + 1)]);
    }

    private void Write(Stream stream, string status, string headers, byte[] body)
    {
        stream.Write(Encoding.ASCII.GetBytes($"HTTP/1.1 {status}\r\nContent-Length: {body.Length}\r\n{headers}Connection: close\r\n\r\n"));
        bool isCut = CutAfter > 0 && body.Length > CutAfter;
        stream.Write(isCut ? body[..CutAfter] : body);
        if (isCut)
        {
            _stop.Token.WaitHandle.WaitOne(Silence);
        }
    }

    private string S3List(string prefix, Dictionary<string, string> query)
    {
        (string[] page, string? next) = Page(prefix, query.GetValueOrDefault("continuation-token"));
        return $"<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>{(next is null ? "false" : "true")}</IsTruncated>"
            + string.Concat(page.Select(key => $"<Contents><Key>{key}</Key></Contents>")) + (next is null ? string.Empty : $"<NextContinuationToken>{next}</NextContinuationToken>") + "</ListBucketResult>";
    }

    private string GoogleList(string prefix, Dictionary<string, string> query)
    {
        (string[] page, string? next) = Page(prefix, query.GetValueOrDefault("pageToken"));
        return $"{{\"items\": [{string.Join(',', page.Select(key => $"{{\"name\": \"{key}\"}}"))}]{(next is null ? string.Empty : $", \"nextPageToken\": \"{next}\"")}}}";
    }

    private (string[] Page, string? Next) Page(string prefix, string? after)
    {
        string[] rest = [.. Objects.Keys.Where(key => key.StartsWith(prefix, StringComparison.Ordinal) && (after is null || string.CompareOrdinal(key, after) > 0))];
        return (rest[..Math.Min(2, rest.Length)], rest.Length > 2 ? rest[1] : null);
    }
}
