using Nibble.IO;

namespace Nibble.Hub;

/// <summary>Where the Hub is, who asks, and where its files are kept: by the variables that Hugging Face's own tools read.</summary>
/// <param name="Endpoint">The Hub, or a mirror of it (<c>HF_ENDPOINT</c>).</param>
/// <param name="CachePath">The cache's folder (<c>HF_HUB_CACHE</c>; or <c>hub</c> in <c>HF_HOME</c>, by default <c>~/.cache/huggingface</c>).</param>
/// <param name="Token">An access token (<c>HF_TOKEN</c>, or what <c>hf auth login</c> wrote); null without one. Sent to the endpoint only.</param>
/// <param name="Offline">Nothing is asked of the network (<c>HF_HUB_OFFLINE</c>).</param>
public sealed record HubSettings(Uri Endpoint, string CachePath, string? Token = null, bool Offline = false)
{
    internal const string DefaultEndpoint = "https://huggingface.co/";

    /// <summary>What the environment says.</summary>
    /// <exception cref="NibbleException"><c>HF_ENDPOINT</c> is no address.</exception>
    public static HubSettings FromEnvironment()
    {
        string endpoint = Variable("HF_ENDPOINT") ?? DefaultEndpoint;
        if (!Uri.TryCreate(endpoint.TrimEnd('/') + "/", UriKind.Absolute, out Uri? address) || address.Scheme is not ("http" or "https"))
        {
            throw new NibbleException(ErrorKind.Usage, $"HF_ENDPOINT '{endpoint}' is no address", "it begins with neither https:// nor http://", "correct it, or unset it");
        }

        return new HubSettings(address, CacheFromEnvironment(), ReadToken(Home), IsOn("HF_HUB_OFFLINE") || IsOn("TRANSFORMERS_OFFLINE"));
    }

    /// <summary>The cache's folder alone: whoever looks for a model in it needs neither address nor token.</summary>
    internal static string CacheFromEnvironment() => Path("HF_HUB_CACHE") ?? Path("HUGGINGFACE_HUB_CACHE") ?? System.IO.Path.Combine(Home, "hub");

    private static string Home => Path("HF_HOME") ?? System.IO.Path.Combine(Path("XDG_CACHE_HOME") ?? System.IO.Path.Combine(UserFolder, ".cache"), "huggingface");

    private static string UserFolder => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile, Environment.SpecialFolderOption.DoNotVerify);

    private static string? ReadToken(string home)
    {
        if ((Variable("HF_TOKEN") ?? Variable("HUGGING_FACE_HUB_TOKEN")) is { } token)
        {
            return token.Trim();
        }

        string file = Path("HF_TOKEN_PATH") ?? System.IO.Path.Combine(home, "token");
        try
        {
            return File.Exists(file) && File.ReadAllText(file).Trim() is { Length: > 0 } written ? written : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new NibbleException(ErrorKind.Resource, $"the access token in {file} can't be read", error.Message, "set HF_TOKEN, or correct the file's permissions", error);
        }
    }

    private static bool IsOn(string name) => Variable(name)?.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE";

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    // As in a shell: ~ is the user's folder.
    private static string? Path(string name) => Variable(name) is not { } value ? null : value is "~" || value.StartsWith("~/", StringComparison.Ordinal) ? UserFolder + value[1..] : value;
}
