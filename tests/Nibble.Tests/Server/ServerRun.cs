using System.Net;
using System.Text;
using System.Text.Json;
using Nibble.Models;
using Nibble.Server;
using Nibble.Server.OpenAi;
using Nibble.Templates;

namespace Nibble.Tests.Server;

/// <summary>A server of an embedded model on a free port of this process, and a client of it.</summary>
internal sealed class ServerRun : IDisposable
{
    private readonly OpenAiServer _server;

    public ServerRun(ServeOptions? options = null, bool chat = true, string name = "nibble-llama-4m")
    {
        Model = LoadedModel.Load(Path.Combine(TestData.Assets, name), new LoadOptions { Threads = 1 });
        ChatTemplate? template = chat ? ChatTemplate.FromText("{% for m in messages %}# {{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}# assistant:{% endif %}") : null;
        _server = new OpenAiServer(Model, new ListenAddress(Port: 0), template, options);
        _server.Application.StartAsync().GetAwaiter().GetResult();
        Client = new HttpClient { BaseAddress = LocalServer.AddressOf(_server.Application), Timeout = TimeSpan.FromMinutes(2) };
    }

    public LoadedModel Model { get; }

    public HttpClient Client { get; }

    public void Stop() => _server.Application.StopAsync().GetAwaiter().GetResult();

    public void Dispose()
    {
        Client.Dispose();
        _server.Dispose();
        Model.Dispose();
    }

    /// <summary>Posts a body; status and document.</summary>
    public async Task<(HttpStatusCode Status, JsonElement Document)> Post(string path, string body)
    {
        using HttpResponseMessage response = await Client.PostAsync(new Uri(path, UriKind.Relative), new StringContent(body, Encoding.UTF8, "application/json"));
        return (response.StatusCode, JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement);
    }

    /// <summary>The document of a body that must succeed.</summary>
    public async Task<JsonElement> Answer(string path, object body)
    {
        (HttpStatusCode status, JsonElement document) = await Post(path, JsonSerializer.Serialize(body));
        Assert.True(status == HttpStatusCode.OK, document.ToString());
        return document;
    }

    /// <summary>The error of a body that must not succeed.</summary>
    public async Task<JsonElement> Error(string path, string body, HttpStatusCode expected = HttpStatusCode.BadRequest)
    {
        (HttpStatusCode status, JsonElement document) = await Post(path, body);
        Assert.True(status == expected, $"{(int)status}: {document}");
        JsonElement error = document.GetProperty("error");
        Assert.Equal(["code", "message", "param", "type"], error.EnumerateObject().Select(property => property.Name).Order(StringComparer.Ordinal));
        return error;
    }

    /// <summary>The events of a stream, which must end as OpenAI's do.</summary>
    public async Task<JsonElement[]> Events(string path, object body)
    {
        using HttpResponseMessage response = await Client.PostAsync(new Uri(path, UriKind.Relative), new StringContent(JsonSerializer.Serialize(body), Encoding.UTF8, "application/json"));
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType!.MediaType);
        string[] lines = (await response.Content.ReadAsStringAsync()).Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        Assert.All(lines, line => Assert.StartsWith("data: ", line, StringComparison.Ordinal));
        Assert.Equal("data: [DONE]", lines[^1]);
        return [.. lines.SkipLast(1).Select(line => JsonDocument.Parse(line[6..]).RootElement)];
    }
}
