using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Nibble.Server.OpenAi;

/// <summary>Who may ask: holders of the key, and web pages of origins that were named.</summary>
internal sealed class AccessGuard(ServeOptions options)
{
    private const string Health = "/health";

    private readonly byte[]? _key = options.ApiKey is null ? null : SHA256.HashData(Encoding.UTF8.GetBytes(options.ApiKey));

    /// <summary>Refuses, answers a browser's question before its request, or lets a request through.</summary>
    public Task Pass(HttpContext context, RequestDelegate next)
    {
        (HttpRequest request, HttpResponse response) = (context.Request, context.Response);
        if (request.Headers.Origin.Count > 0)
        {
            // A page elsewhere could make a browser send requests here though it can't read the answers: nothing is generated for it.
            string origin = request.Headers.Origin.ToString();
            if (!IsAllowed(origin))
            {
                throw new ApiException(
                    StatusCodes.Status403Forbidden, $"Pages of {origin} may not use this server: start it with --allow-origin {origin}.", "invalid_request_error", null, "origin_not_allowed");
            }

            response.Headers.AccessControlAllowOrigin = origin;
            response.Headers.Vary = "Origin";
            if (HttpMethods.IsOptions(request.Method) && request.Headers.AccessControlRequestMethod.Count > 0)
            {
                response.StatusCode = StatusCodes.Status204NoContent;
                response.Headers.AccessControlAllowMethods = "GET, POST";
                response.Headers.AccessControlAllowHeaders = request.Headers.AccessControlRequestHeaders;
                response.Headers.AccessControlMaxAge = "600";
                return Task.CompletedTask;
            }
        }

        return HasKey(request) ? next(context) : throw new ApiException(
            StatusCodes.Status401Unauthorized, "The API key is missing or wrong: send it as 'Authorization: Bearer KEY'.", "invalid_request_error", null, "invalid_api_key");
    }

    // This server has no pages of its own: no origin goes without saying.
    private bool IsAllowed(string origin) =>
        options.AllowedOrigins.Any(allowed => allowed == "*" || string.Equals(allowed.TrimEnd('/'), origin, StringComparison.OrdinalIgnoreCase));

    // Hashes have one length: the time of the comparison tells nothing.
    private bool HasKey(HttpRequest request)
    {
        const string scheme = "Bearer ";
        string header = request.Headers.Authorization.ToString();
        return _key is null || request.Path == Health
            || (header.StartsWith(scheme, StringComparison.OrdinalIgnoreCase)
                && CryptographicOperations.FixedTimeEquals(SHA256.HashData(Encoding.UTF8.GetBytes(header[scheme.Length..].Trim())), _key));
    }
}
