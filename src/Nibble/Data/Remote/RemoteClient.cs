using System.Net;
using System.Net.Http.Headers;
using Nibble.IO;

namespace Nibble.Data.Remote;

/// <summary>Puts credentials on a request.</summary>
internal interface IRequestSigner
{
    /// <summary>Signs a request; its headers do not change afterwards.</summary>
    void Sign(HttpRequestMessage request);
}

/// <summary>Sends requests: signed, with retries that have an end, and errors that say what to do.</summary>
/// <param name="signer">Puts credentials on requests to the named server.</param>
/// <param name="refusal">What a refusal means at this server; null for what it means anywhere.</param>
internal sealed class RemoteClient(IRequestSigner? signer = null, Func<HttpResponseMessage, string, NibbleException?>? refusal = null)
{
    /// <summary>Tries without any progress before a transfer is given up.</summary>
    private const int MostTries = 5;

    // Redirects are followed by hand: credentials must not go to another host.
    private static readonly HttpClient Client = new(new SocketsHttpHandler
    {
        AllowAutoRedirect = false,
        AutomaticDecompression = DecompressionMethods.None,
        ConnectTimeout = TimeSpan.FromSeconds(15),
        PooledConnectionLifetime = TimeSpan.FromMinutes(10),
    })
    {
        Timeout = TimeSpan.FromSeconds(100),
        DefaultRequestHeaders = { { "User-Agent", "nibble" }, { "Accept-Encoding", "identity" } },
    };

    /// <summary>Pause before the second try; doubled each time.</summary>
    public TimeSpan FirstPause { get; init; } = TimeSpan.FromMilliseconds(Environment.GetEnvironmentVariable("NIBBLE_RETRY_MS") is { } text && int.TryParse(text, out int given) ? given : 500);

    /// <summary>How long a connection may be silent before it counts as broken.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Sends a request until there is an answer other than "try again".</summary>
    /// <param name="method">Method.</param>
    /// <param name="address">Where to.</param>
    /// <param name="name">What is asked for, for errors.</param>
    /// <param name="prepare">Adds headers.</param>
    /// <param name="mayBeRefused">The caller looks at refusals itself.</param>
    /// <returns>An answer of success, 404, 412 or 416, or a refusal where that may be.</returns>
    /// <exception cref="NibbleException">Refused, not reachable, or failing again and again.</exception>
    public HttpResponseMessage Send(HttpMethod method, Uri address, string name, Action<HttpRequestMessage>? prepare = null, bool mayBeRefused = false)
    {
        for (int failures = 1; ; failures++)
        {
            Exception? error = null;
            HttpResponseMessage? response = null;
            try
            {
                response = Follow(method, address, name, prepare);
            }
            catch (Exception caught) when (caught is HttpRequestException or OperationCanceledException or IOException)
            {
                error = caught;
            }

            if (response is not null && !IsTransient(response.StatusCode))
            {
                return mayBeRefused && IsRefusal(response.StatusCode) ? response : Checked(response, name);
            }

            string why = response is null ? error!.Message : $"the server answers {(int)response.StatusCode} {response.ReasonPhrase}";
            TimeSpan? wait = response?.Headers.RetryAfter?.Delta;
            response?.Dispose();
            Pause(failures, name, why, error, wait);
        }
    }

    /// <summary>Waits before another try, or gives up.</summary>
    public void Pause(int failures, string name, string why, Exception? error, TimeSpan? wait)
    {
        if (failures >= MostTries)
        {
            throw new NibbleException(ErrorKind.Network, $"{name} can't be read", $"{why} ({MostTries} tries)", "check the address and the connection, or try later", error);
        }

        TimeSpan pause = FirstPause * Math.Pow(2, failures - 1);
        Thread.Sleep(wait is { } told && told > pause ? TimeSpan.FromTicks(Math.Min(told.Ticks, TimeSpan.FromSeconds(30).Ticks)) : pause);
    }

    /// <summary>The client for an address to which <paramref name="own"/>, for which the credentials are, has led.</summary>
    public RemoteClient For(Uri address, Uri own) => IsSameServer(address, own) ? this : new RemoteClient { FirstPause = FirstPause, Patience = Patience };

    private static bool IsSameServer(Uri one, Uri other) => one.Host == other.Host && one.Port == other.Port;

    private HttpResponseMessage Follow(HttpMethod method, Uri address, string name, Action<HttpRequestMessage>? prepare)
    {
        Uri target = address;
        for (int hops = 0; hops < 10; hops++)
        {
            using HttpRequestMessage request = new(method, target);
            prepare?.Invoke(request);
            if (IsSameServer(target, address))
            {
                signer?.Sign(request);
            }

            HttpResponseMessage response = Client.Send(request, HttpCompletionOption.ResponseHeadersRead);
            if ((int)response.StatusCode is not (301 or 302 or 303 or 307 or 308) || response.Headers.Location is not { } location)
            {
                return response;
            }

            response.Dispose();
            Uri next = new(target, location);
            if (next.Scheme is not ("http" or "https") || (target.Scheme == "https" && next.Scheme == "http"))
            {
                Throw.Failed($"{name} leads to {next.Scheme}://{next.Host}", "a secured address must not lead to an open one", "name the other address, if you trust it");
            }

            target = next;
        }

        throw new NibbleException(ErrorKind.Network, $"{name} leads from one address to the next", "ten redirects in a row", "check the address");
    }

    /// <summary>Whether an answer says that the asker has no right.</summary>
    public static bool IsRefusal(HttpStatusCode status) => status is HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden;

    private static bool IsTransient(HttpStatusCode status) => (int)status is 408 or 429 or >= 500;

    private HttpResponseMessage Checked(HttpResponseMessage response, string name)
    {
        if (response.IsSuccessStatusCode || response.StatusCode is HttpStatusCode.NotFound or HttpStatusCode.PreconditionFailed or HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            return response;
        }

        int status = (int)response.StatusCode;
        NibbleException? meant = refusal?.Invoke(response, name);
        response.Dispose();
        throw meant ?? new NibbleException(
            ErrorKind.Network,
            $"{name} is refused",
            $"the server answers {status}",
            status is 401 or 403 ? "set credentials in the environment (see docs/data.md), or check that the object is public" : "check the address");
    }
}
