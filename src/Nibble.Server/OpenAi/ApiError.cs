using Microsoft.AspNetCore.Http;
using Nibble.IO;

namespace Nibble.Server.OpenAi;

/// <summary>An error as clients of OpenAI know it: <c>{"error": {"message", "type", "param", "code"}}</c>.</summary>
internal sealed class ApiException(int status, string message, string type, string? parameter, string? code) : Exception(message)
{
    public int Status => status;

    /// <summary>Seconds after which it is worth trying again.</summary>
    public int? RetryAfter { get; init; }

    public object Document => new { error = new ErrorBody(Message, type, parameter, code) };

    public static ApiException Invalid(string message, string? parameter, string? code = null) =>
        new(StatusCodes.Status400BadRequest, message, "invalid_request_error", parameter, code);

    /// <summary>A parameter that would change the answer and that this server does not have.</summary>
    public static ApiException Unsupported(string parameter, string why) =>
        Invalid($"Unsupported parameter: '{parameter}': {why}. Leave it out.", parameter, "unsupported_parameter");

    public static ApiException NoPlace(string message) =>
        new(StatusCodes.Status503ServiceUnavailable, message, "server_error", null, "overloaded") { RetryAfter = 1 };

    /// <summary>What any failure is to a client; details of unexpected ones stay here.</summary>
    public static ApiException Of(Exception error) => error switch
    {
        ApiException known => known,
        BadHttpRequestException { StatusCode: StatusCodes.Status413PayloadTooLarge } => new ApiException(
            StatusCodes.Status413PayloadTooLarge, $"The request's body has more than {OpenAiServer.LargestRequest:N0} bytes.", "invalid_request_error", null, "request_too_large"),
        BadHttpRequestException bad => new ApiException(bad.StatusCode, bad.Message, "invalid_request_error", null, null),
        NibbleException { Kind: ErrorKind.BadInput or ErrorKind.Usage } input => Invalid(OneLine(input), null),
        NibbleException failed => new ApiException(StatusCodes.Status500InternalServerError, OneLine(failed), "server_error", null, null),
        OutOfMemoryException => new ApiException(
            StatusCodes.Status500InternalServerError, "There is not enough memory for this answer.", "server_error", null, "out_of_memory"),
        _ => new ApiException(StatusCodes.Status500InternalServerError, $"Unexpected {error.GetType().Name}: this is a defect of Nibble.", "server_error", null, null),
    };

    private static string OneLine(NibbleException error) => error.Message.ReplaceLineEndings("; ");
}

/// <summary>The inside of an error.</summary>
internal sealed record ErrorBody(string Message, string Type, string? Param, string? Code);
