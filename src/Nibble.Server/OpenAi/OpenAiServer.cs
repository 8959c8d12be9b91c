using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Nibble.Models;
using Nibble.Templates;

namespace Nibble.Server.OpenAi;

/// <summary>
/// One model behind the routes that clients of OpenAI use: <c>/v1/chat/completions</c>, <c>/v1/completions</c>, <c>/v1/models</c>, and
/// <c>/health</c>. Many requests share one running batch.
/// </summary>
public sealed class OpenAiServer : IDisposable
{
    internal const long LargestRequest = 16 << 20;

    private const string Routes = "POST /v1/chat/completions, POST /v1/completions, GET /v1/models, GET /health";

    private readonly ServedModel _model;
    private readonly ServeOptions _options;
    private readonly Scheduler _scheduler;
    private readonly Generation _generation;

    /// <summary>Prepares to serve a model, which it does not own; nobody else may run it meanwhile.</summary>
    /// <param name="model">The model.</param>
    /// <param name="address">Where it listens.</param>
    /// <param name="template">A chat template in the place of the model's own.</param>
    /// <param name="options">How it is served.</param>
    /// <exception cref="IO.NibbleException">The model is a classifier or has no tokenizer; the address is none.</exception>
    public OpenAiServer(LoadedModel model, ListenAddress address, ChatTemplate? template = null, ServeOptions? options = null)
    {
        _options = options ?? new ServeOptions();
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(_options.Parallel);
        ArgumentOutOfRangeException.ThrowIfNegative(_options.Queue);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(_options.MaxTokens);
        _model = new ServedModel(model, template, _options.Name);
        Application = LocalServer.Create(address, LargestRequest);
        _scheduler = new Scheduler(model, _options);
        _generation = new Generation(_scheduler, _options);
        Application.Lifetime.ApplicationStopping.Register(() => _scheduler.Stop(_options.Patience));
        AccessGuard guard = new(_options);
        Application.Use(Guarded);
        Application.Use(guard.Pass);
        Application.MapPost("/v1/chat/completions", Chat);
        Application.MapPost("/v1/completions", Complete);
        Application.MapGet("/v1/models", context => Json.Write(context.Response, StatusCodes.Status200OK, new { @object = "list", data = new[] { Card } }));
        Application.MapGet("/v1/models/{**id}", OneModel);
        Application.MapGet("/health", Health);
    }

    /// <summary>The application, for <see cref="LocalServer.Run"/>.</summary>
    public WebApplication Application { get; }

    /// <summary>What the model is called.</summary>
    public string Name => _model.Name;

    /// <summary>Whether the model can chat.</summary>
    public bool HasChatTemplate => _model.HasTemplate;

    private object Card => new { id = _model.Name, @object = "model", created = _model.Created, owned_by = "nibble", max_model_len = _model.Context };

    /// <inheritdoc/>
    public void Dispose()
    {
        _scheduler.Dispose();
        ((IDisposable)Application).Dispose();
    }

    private Task Chat(HttpContext context) => Answer(context, body =>
    {
        ChatRequest request = ChatRequest.Read(body, _options);
        Sequence[] sequences = [.. _model.Sequences(_model.Prompt(request), request.Sampling, chat: true)];
        return (sequences, request.Sampling, new ChatAnswer(HeadOf("chatcmpl-"), _model, sequences.Length, request.Sampling.Stream));
    });

    private Task Complete(HttpContext context) => Answer(context, body =>
    {
        CompletionRequest request = CompletionRequest.Read(body, _options);
        List<Sequence> sequences = [];
        List<string> echoes = [];
        foreach (CompletionPrompt prompt in request.Prompts)
        {
            int[] tokens = _model.Prompt(prompt);
            sequences.AddRange(_model.Sequences(tokens, request.Sampling, chat: false));
            string echo = request.Echo ? prompt.Text ?? _model.Tokenizer.Decode(tokens) : string.Empty;
            echoes.AddRange(request.Echo ? Enumerable.Repeat(echo, request.Sampling.Choices) : []);
        }

        return (sequences, request.Sampling, new CompletionAnswer(HeadOf("cmpl-"), _model, sequences.Count, request.Sampling.Stream, echoes));
    });

    private async Task Answer(HttpContext context, Func<JsonElement, (IReadOnlyList<Sequence>, SamplingFields, IAnswerForm)> read)
    {
        JsonElement body = await Json.Read(context.Request);
        IReadOnlyList<Sequence> sequences;
        SamplingFields sampling;
        IAnswerForm form;
        try
        {
            (sequences, sampling, form) = read(body);
        }
        catch (InvalidOperationException error) when (error.Source?.StartsWith(typeof(JsonElement).Namespace!, StringComparison.Ordinal) == true)
        {
            throw ApiException.Invalid($"A text of the body is no Unicode: {error.Message}", null, "invalid_json");
        }

        await _generation.Answer(context, sequences, sampling, form);
    }

    private Head HeadOf(string kind) => new(kind + Guid.NewGuid().ToString("N"), string.Empty, DateTimeOffset.UtcNow.ToUnixTimeSeconds(), _model.Name, _model.Fingerprint);

    private Task OneModel(HttpContext context) => context.GetRouteValue("id") is string id && id == _model.Name
        ? Json.Write(context.Response, StatusCodes.Status200OK, Card)
        : throw new ApiException(StatusCodes.Status404NotFound, $"The model '{context.GetRouteValue("id")}' does not exist; this server has '{_model.Name}'.", "invalid_request_error", "model", "model_not_found");

    private Task Health(HttpContext context)
    {
        (int active, int waiting) = _scheduler.Load;
        return Json.Write(context.Response, StatusCodes.Status200OK, new { status = "ok", model = _model.Name, active, waiting });
    }

    /// <summary>Every failure becomes an error document.</summary>
    private static async Task Guarded(HttpContext context, RequestDelegate next)
    {
        ApiException? failure = null;
        try
        {
            await next(context);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            return;
        }
        catch (Exception error) when (!context.Response.HasStarted)
        {
            failure = ApiException.Of(error);
        }

        string route = $"{context.Request.Method} {context.Request.Path}";
        failure ??= context.Response.HasStarted ? null : context.Response.StatusCode switch
        {
            StatusCodes.Status404NotFound => new ApiException(StatusCodes.Status404NotFound, $"Unknown route: {route}. There are {Routes}.", "invalid_request_error", null, "unknown_url"),
            StatusCodes.Status405MethodNotAllowed => new ApiException(StatusCodes.Status405MethodNotAllowed, $"Wrong method: {route}. There are {Routes}.", "invalid_request_error", null, "method_not_supported"),
            _ => null,
        };
        if (failure is not null)
        {
            if (failure.RetryAfter is { } seconds)
            {
                context.Response.Headers.RetryAfter = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
            }

            await Json.Write(context.Response, failure.Status, failure.Document);
        }
    }
}
