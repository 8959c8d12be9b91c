using System.Text.Json;

namespace Nibble.IO;

/// <summary>Reads documents that Nibble itself wrote, and that somebody may have damaged since.</summary>
internal static class JsonText
{
    /// <summary>Reads a file as one value.</summary>
    /// <param name="path">The file.</param>
    /// <param name="read">Makes the value of the root.</param>
    /// <param name="remedy">How to get a whole file again.</param>
    /// <exception cref="NibbleException">It is no JSON, or misses what the value needs.</exception>
    public static T Read<T>(string path, Func<JsonElement, T?> read, string remedy)
        where T : class
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            return read(document.RootElement) ?? throw new JsonException("it is empty");
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new NibbleException(ErrorKind.BadInput, $"{path} is damaged", error.Message, remedy, error);
        }
    }
}
