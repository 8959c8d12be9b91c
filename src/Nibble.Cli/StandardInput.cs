using System.Text;
using Nibble.IO;

namespace Nibble.Cli;

/// <summary>Text on stdin. What is no text in the system's encoding is refused, never replaced by other characters without a word.</summary>
internal static class StandardInput
{
    private static readonly TextReader Reader = Open();

    /// <summary>Everything up to the end.</summary>
    public static string ReadToEnd() => Checked(Reader.ReadToEnd);

    /// <summary>A line; null at the end.</summary>
    public static string? ReadLine() => Checked(Reader.ReadLine);

    private static TextReader Open() => !Console.IsInputRedirected
        ? Console.In
        : new StreamReader(Console.OpenStandardInput(), Encoding.GetEncoding(Console.InputEncoding.CodePage, EncoderFallback.ExceptionFallback, DecoderFallback.ExceptionFallback));

    private static T Checked<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (DecoderFallbackException error)
        {
            throw new NibbleException(ErrorKind.BadInput, $"stdin is no text in {Console.InputEncoding.WebName.ToUpperInvariant()}", error.Message, "convert it to UTF-8", error);
        }
    }
}
