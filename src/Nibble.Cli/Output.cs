using System.Text.Json;
using System.Text.Json.Serialization;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary>Where things are printed: human progress and tables to stderr, the result document to stdout.</summary>
internal static class Output
{
    /// <summary>Names in snake case, absent values left out, indented: the form of every document that Nibble prints or writes.</summary>
    public static JsonSerializerOptions JsonOptions { get; } = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DictionaryKeyPolicy = null,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        WriteIndented = true,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NumberHandling = JsonNumberHandling.Strict,
    };

    /// <summary>The console for people, on stderr; colours only on a terminal and without NO_COLOR.</summary>
    public static IAnsiConsole Human { get; } = CreateHuman();

    /// <summary>The same for lines of text: the terminal breaks them, so that a command or path that is copied stays in one piece.</summary>
    public static IAnsiConsole Text { get; } = CreateHuman(width: 1_000_000);

    /// <summary>Prints <paramref name="document"/> to stdout as JSON.</summary>
    public static void Json(object document) => Console.Out.WriteLine(JsonSerializer.Serialize(document, JsonOptions));

    private static IAnsiConsole CreateHuman(int? width = null)
    {
        bool plain = Console.IsErrorRedirected;
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(Console.Error),
            ColorSystem = Environment.GetEnvironmentVariable("NO_COLOR") is { Length: > 0 } || plain
                ? ColorSystemSupport.NoColors
                : ColorSystemSupport.Detect,
            Ansi = plain ? AnsiSupport.No : AnsiSupport.Detect,
            Interactive = plain ? InteractionSupport.No : InteractionSupport.Detect,
        });
        // A file or pipe has no width: wide enough that tables of results keep one line a row.
        console.Profile.Width = width ?? (plain ? 160 : console.Profile.Width);
        return console;
    }
}
