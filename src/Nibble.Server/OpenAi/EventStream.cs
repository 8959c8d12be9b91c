using System.Buffers;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Nibble.Server.OpenAi;

/// <summary>Server-sent events (WHATWG HTML, section 9.2), as OpenAI's clients read them: <c>data: {…}</c>, at the end <c>data: [DONE]</c>.</summary>
internal sealed class EventStream(HttpResponse response)
{
    /// <summary>Sends the head, so that a client knows at once that it is served.</summary>
    public Task Begin(CancellationToken gone)
    {
        response.ContentType = "text/event-stream; charset=utf-8";
        response.Headers.CacheControl = "no-cache";
        // Proxies that collect answers would end the streaming.
        response.Headers["X-Accel-Buffering"] = "no";
        return response.StartAsync(gone);
    }

    /// <summary>Writes an event; it may wait until <see cref="Flush"/>.</summary>
    public void Write(object document)
    {
        response.BodyWriter.Write("data: "u8);
        response.BodyWriter.Write(JsonSerializer.SerializeToUtf8Bytes(document, Json.Options));
        response.BodyWriter.Write("\n\n"u8);
    }

    public async Task Flush(CancellationToken gone) => await response.BodyWriter.FlushAsync(gone);

    public Task End(CancellationToken gone)
    {
        response.BodyWriter.Write("data: [DONE]\n\n"u8);
        return Flush(gone);
    }
}
