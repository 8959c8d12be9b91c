namespace Nibble.SystemTests;

/// <summary>The browser of this machine.</summary>
internal static class Browsers
{
    /// <summary>Chromium, or null where there is none.</summary>
    public static string? Find() => new[] { "chromium", "chromium-browser", "google-chrome" }
        .SelectMany(name => (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(Path.PathSeparator).Select(folder => Path.Combine(folder, name)))
        .FirstOrDefault(File.Exists);
}
