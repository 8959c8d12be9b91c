using System.Net;
using System.Text;
using System.Text.Json;
using Nibble.Server.OpenAi;

namespace Nibble.Tests.Server;

/// <summary>What the server can't do it says, in OpenAI's form; nothing that a client asks for is passed over.</summary>
public sealed class RefusalTests : IClassFixture<RefusalTests.Fixture>
{
    private const string Chat = "/v1/chat/completions", Completions = "/v1/completions";

    private readonly ServerRun _run;

    public RefusalTests(Fixture fixture) => _run = fixture.Run;

    [Theory]
    [InlineData("{", null)]
    [InlineData("", null)]
    [InlineData("[]", null)]
    [InlineData("{\"prompt\":\"a\",\"prompt\":\"b\"}", null)]
    [InlineData("{\"prompt\":\"\\ud800\"}", null)]
    [InlineData("{}", "prompt")]
    [InlineData("{\"prompt\":null}", "prompt")]
    [InlineData("{\"prompt\":1}", "prompt")]
    [InlineData("{\"prompt\":[]}", "prompt")]
    [InlineData("{\"prompt\":\"\"}", "prompt")]
    [InlineData("{\"prompt\":[\"a\",1]}", "prompt")]
    [InlineData("{\"prompt\":[1,\"a\"]}", "prompt")]
    [InlineData("{\"prompt\":[1.5]}", "prompt")]
    [InlineData("{\"prompt\":[99999]}", null)]
    [InlineData("{\"prompt\":\"a\",\"temperature\":\"hot\"}", "temperature")]
    [InlineData("{\"prompt\":\"a\",\"temperature\":-1}", "temperature")]
    [InlineData("{\"prompt\":\"a\",\"temperature\":1e999}", "temperature")]
    [InlineData("{\"prompt\":\"a\",\"top_p\":1.1}", "top_p")]
    [InlineData("{\"prompt\":\"a\",\"min_p\":1.5}", "min_p")]
    [InlineData("{\"prompt\":\"a\",\"max_tokens\":0}", "max_tokens")]
    [InlineData("{\"prompt\":\"a\",\"max_tokens\":1.5}", "max_tokens")]
    [InlineData("{\"prompt\":\"a\",\"max_tokens\":1e30}", "max_tokens")]
    [InlineData("{\"prompt\":\"a\",\"n\":0}", "n")]
    [InlineData("{\"prompt\":\"a\",\"n\":129}", "n")]
    [InlineData("{\"prompt\":\"a\",\"stream\":1}", "stream")]
    [InlineData("{\"prompt\":\"a\",\"stream_options\":{}}", "stream_options")]
    [InlineData("{\"prompt\":\"a\",\"stream\":true,\"stream_options\":{\"x\":1}}", "stream_options.x")]
    [InlineData("{\"prompt\":\"a\",\"stop\":\"\"}", "stop")]
    [InlineData("{\"prompt\":\"a\",\"stop\":[1]}", "stop")]
    [InlineData("{\"prompt\":\"a\",\"seed\":\"x\"}", "seed")]
    [InlineData("{\"prompt\":\"a\",\"presence_penalty\":3}", "presence_penalty")]
    [InlineData("{\"prompt\":\"a\",\"logit_bias\":{\"x\":1}}", "logit_bias")]
    [InlineData("{\"prompt\":\"a\",\"logit_bias\":{\"1\":101}}", "logit_bias")]
    [InlineData("{\"prompt\":\"a\",\"logit_bias\":{\"99999\":1}}", null)]
    [InlineData("{\"prompt\":\"a\",\"suffix\":\"b\"}", "suffix")]
    [InlineData("{\"prompt\":\"a\",\"best_of\":2}", "best_of")]
    [InlineData("{\"prompt\":\"a\",\"echo\":true,\"logprobs\":1}", "echo")]
    [InlineData("{\"prompt\":\"a\",\"logprobs\":21}", "logprobs")]
    [InlineData("{\"prompt\":\"a\",\"model\":1}", "model")]
    [InlineData("{\"prompt\":\"a\",\"typical_p\":0.1}", "typical_p")]
    public async Task ACompletion(string body, string? parameter) => Assert.Equal(parameter, (await _run.Error(Completions, body)).GetProperty("param").GetString());

    [Theory]
    [InlineData("\"tools\":[{\"type\":\"function\"}]", "tools")]
    [InlineData("\"functions\":[{}]", "functions")]
    [InlineData("\"tool_choice\":\"required\"", "tool_choice")]
    [InlineData("\"response_format\":{\"type\":\"json_object\"}", "response_format")]
    [InlineData("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}", "response_format")]
    [InlineData("\"modalities\":[\"text\",\"audio\"]", "modalities")]
    [InlineData("\"audio\":{\"voice\":\"x\"}", "audio")]
    [InlineData("\"reasoning_effort\":\"high\"", "reasoning_effort")]
    [InlineData("\"web_search_options\":{\"a\":1}", "web_search_options")]
    [InlineData("\"top_logprobs\":1", "top_logprobs")]
    [InlineData("\"max_tokens\":1,\"max_completion_tokens\":2", "max_tokens")]
    [InlineData("\"frobnicate\":true", "frobnicate")]
    public async Task AFieldOfAChat(string field, string parameter)
    {
        JsonElement error = await _run.Error(Chat, $"{{\"messages\":[{{\"role\":\"user\",\"content\":\"a\"}}],{field}}}");
        Assert.Equal((parameter, "invalid_request_error"), (error.GetProperty("param").GetString(), error.GetProperty("type").GetString()));
    }

    [Theory]
    [InlineData("[]", "messages")]
    [InlineData("\"hello\"", "messages")]
    [InlineData("[1]", "messages[0]")]
    [InlineData("[{\"content\":\"a\"}]", "messages[0].role")]
    [InlineData("[{\"role\":\"user\"}]", "messages[0].content")]
    [InlineData("[{\"role\":\"user\",\"content\":5}]", "messages[0].content")]
    [InlineData("[{\"role\":\"king\",\"content\":\"a\"}]", "messages[0].role")]
    [InlineData("[{\"role\":\"tool\",\"content\":\"a\"}]", "messages[0].role")]
    [InlineData("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]", "messages[0].content[0].type")]
    [InlineData("[{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[{}]}]", "messages[0].tool_calls")]
    [InlineData("[{\"role\":\"user\",\"content\":\"a\",\"name\":\"Ann\"}]", "messages[0].name")]
    [InlineData("[{\"role\":\"user\",\"content\":\"a\",\"mood\":\"good\"}]", "messages[0].mood")]
    public async Task AConversation(string messages, string parameter) => Assert.Equal(parameter, (await _run.Error(Chat, $"{{\"messages\":{messages}}}")).GetProperty("param").GetString());

    [Fact]
    public async Task WhatAsksForNothingIsAccepted()
    {
        string chat = """
            {"messages":[{"role":"user","content":"a"}],"max_tokens":1,"user":"u","metadata":{"a":"b"},"store":true,"tools":[],"tool_choice":"none","response_format":{"type":"text"},
             "modalities":["text"],"parallel_tool_calls":true,"logit_bias":null,"stop":null,"presence_penalty":0,"n":1.0,"top_k":-1,"service_tier":"auto","reasoning_effort":null,"top_p":0}
            """;
        Assert.Equal(HttpStatusCode.OK, (await _run.Post(Chat, chat)).Status);
        Assert.Equal(HttpStatusCode.OK, (await _run.Post(Completions, "{\"prompt\":\"a\",\"max_tokens\":1,\"suffix\":\"\",\"best_of\":1,\"echo\":false,\"logprobs\":null}")).Status);
    }

    [Fact]
    public async Task PromptsThatFillTheContext()
    {
        string text = JsonSerializer.Serialize(string.Concat(Enumerable.Repeat("import os\n", 400)));
        JsonElement error = await _run.Error(Completions, $"{{\"prompt\":{text}}}");
        Assert.Equal("context_length_exceeded", error.GetProperty("code").GetString());
        Assert.Contains("512 tokens", error.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.Equal("context_length_exceeded", (await _run.Error(Chat, $"{{\"messages\":[{{\"role\":\"user\",\"content\":{text}}}]}}")).GetProperty("code").GetString());
    }

    [Fact]
    public async Task UnknownRoutesAndMethods()
    {
        Assert.Equal("unknown_url", (await _run.Error("/v1/embeddings", "{}", HttpStatusCode.NotFound)).GetProperty("code").GetString());
        Assert.Equal("unknown_url", (await _run.Error("/", "{}", HttpStatusCode.NotFound)).GetProperty("code").GetString());
        using HttpResponseMessage response = await _run.Client.GetAsync(new Uri(Chat, UriKind.Relative));
        Assert.Equal(HttpStatusCode.MethodNotAllowed, response.StatusCode);
        Assert.Contains("\"error\"", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task BodiesOfMoreThan16MB()
    {
        string body = $"{{\"prompt\":\"{new string('a', 17 << 20)}\"}}";
        // A client that asks first, as curl does, reads the answer before it has sent everything.
        using HttpRequestMessage request = new(HttpMethod.Post, Completions) { Headers = { ExpectContinue = true }, Content = new StringContent(body, Encoding.UTF8, "application/json") };
        using HttpResponseMessage response = await _run.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, response.StatusCode);
        Assert.Contains("request_too_large", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task ForeignNamesAndPages()
    {
        using HttpRequestMessage rebound = new(HttpMethod.Get, "/health") { Headers = { Host = "evil.example" } };
        Assert.Equal(HttpStatusCode.MisdirectedRequest, (await _run.Client.SendAsync(rebound)).StatusCode);
        using HttpRequestMessage page = new(HttpMethod.Post, Completions) { Headers = { { "Origin", "http://evil.example" } }, Content = new StringContent("{\"prompt\":\"a\",\"max_tokens\":1}", Encoding.UTF8, "text/plain") };
        using HttpResponseMessage refused = await _run.Client.SendAsync(page);
        Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);
        Assert.False(refused.Headers.Contains("Access-Control-Allow-Origin"));
        Assert.Contains("--allow-origin http://evil.example", await refused.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task NamedOriginsMayAsk()
    {
        using ServerRun run = new(new ServeOptions { AllowedOrigins = ["http://localhost:3000/"], ApiKey = "secret" });
        using HttpRequestMessage question = new(HttpMethod.Options, Chat)
        {
            Headers = { { "Origin", "http://localhost:3000" }, { "Access-Control-Request-Method", "POST" }, { "Access-Control-Request-Headers", "authorization,content-type" } },
        };
        // A browser asks without the key.
        using HttpResponseMessage answer = await run.Client.SendAsync(question);
        Assert.Equal(HttpStatusCode.NoContent, answer.StatusCode);
        Assert.Equal("http://localhost:3000", answer.Headers.GetValues("Access-Control-Allow-Origin").Single());
        Assert.Equal("authorization,content-type", answer.Headers.GetValues("Access-Control-Allow-Headers").Single());
    }

    [Theory]
    [InlineData(null, HttpStatusCode.Unauthorized)]
    [InlineData("Bearer wrong", HttpStatusCode.Unauthorized)]
    [InlineData("Basic secret", HttpStatusCode.Unauthorized)]
    [InlineData("Bearer secret", HttpStatusCode.OK)]
    public async Task KeysAreAskedFor(string? header, HttpStatusCode expected)
    {
        using ServerRun run = new(new ServeOptions { ApiKey = "secret" });
        using HttpRequestMessage request = new(HttpMethod.Get, "/v1/models");
        if (header is not null)
        {
            request.Headers.TryAddWithoutValidation("Authorization", header);
        }

        using HttpResponseMessage response = await run.Client.SendAsync(request);
        Assert.Equal(expected, response.StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await run.Client.GetAsync(new Uri("/health", UriKind.Relative))).StatusCode);
        if (expected == HttpStatusCode.Unauthorized)
        {
            JsonElement error = JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement.GetProperty("error");
            Assert.Equal("invalid_api_key", error.GetProperty("code").GetString());
        }
    }

    [Fact]
    public async Task ChatsOfAModelWithoutATemplate()
    {
        using ServerRun run = new(chat: false);
        JsonElement error = await run.Error(Chat, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}");
        Assert.Equal("no_chat_template", error.GetProperty("code").GetString());
        Assert.Contains("/v1/completions", error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    public sealed class Fixture : IDisposable
    {
        internal ServerRun Run { get; } = new();

        public void Dispose() => Run.Dispose();
    }
}
