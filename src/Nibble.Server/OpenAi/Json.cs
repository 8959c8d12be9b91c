using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Nibble.Server.OpenAi;

/// <summary>Reading and writing JSON as OpenAI's clients do.</summary>
internal static class Json
{
    public static JsonSerializerOptions Options { get; } = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>The body of a request.</summary>
    public static async Task<JsonElement> Read(HttpRequest request)
    {
        try
        {
            JsonDocumentOptions strict = new() { AllowDuplicateProperties = false };
            using JsonDocument document = await JsonDocument.ParseAsync(request.Body, strict, request.HttpContext.RequestAborted);
            return document.RootElement.Clone();
        }
        catch (JsonException error)
        {
            throw ApiException.Invalid($"The body is not JSON: {error.Message}", null, "invalid_json");
        }
    }

    public static async Task Write(HttpResponse response, int status, object document)
    {
        byte[] bytes = JsonSerializer.SerializeToUtf8Bytes(document, Options);
        response.StatusCode = status;
        response.ContentType = "application/json; charset=utf-8";
        response.ContentLength = bytes.Length;
        await response.Body.WriteAsync(bytes, response.HttpContext.RequestAborted);
    }
}
