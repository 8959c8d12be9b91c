using System.Text.Json;
using Nibble.Data.Rows;
using Nibble.IO;
using Nibble.Templates;
using Xunit;

namespace Nibble.Tests.Templates;

/// <summary>Texts and errors of Jinja2 itself (see Goldens/chat-templates).</summary>
public class TemplateGoldenTests
{
    private static readonly string Folder = Path.Combine(TestData.Goldens, "chat-templates");

    public static TheoryData<string> TemplateNames => [.. Directory.EnumerateFiles(Folder, "*.jinja").Select(file => Path.GetFileName(file)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(TemplateNames))]
    public void ChatTemplatesRenderAsJinjaDoes(string name)
    {
        using JsonDocument cases = JsonDocument.Parse(TestData.Golden("chat-templates", "cases.json"));
        string file = Path.Combine(Folder, name);
        ChatTemplate template = new FixedClock().Template(File.ReadAllText(file));
        List<string> wrong = [];
        foreach (JsonElement one in cases.RootElement.EnumerateArray().Where(one => one.GetProperty("template").GetString() == name))
        {
            string title = $"{name} {one.GetProperty("name")} {one.GetProperty("add_generation_prompt")}";
            string? expected = one.TryGetProperty("text", out JsonElement text) ? text.GetString() : null;
            string? actual = Render(template, one, out string message);
            if (expected != actual)
            {
                wrong.Add($"{title}\nexpected: {expected}\nactual:   {actual} {message}");
            }

            if (expected is null && one.GetProperty("error").GetString() is { } error && error != "type" && !error.Contains('\'', StringComparison.Ordinal)
                && !error.Contains("object", StringComparison.Ordinal))
            {
                Assert.Contains(error, message, StringComparison.Ordinal);
            }
        }

        Assert.True(wrong.Count == 0, string.Join("\n\n", wrong));
    }

    [Fact]
    public void ExpressionsGiveWhatJinjaGives()
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(Path.Combine(Folder, "expressions.json")));
        OrderedDictionary<string, object?> values = JsonValues.Map(document.RootElement.GetProperty("values"));
        List<string> wrong = [];
        foreach (JsonElement one in document.RootElement.GetProperty("cases").EnumerateArray())
        {
            string source = one.GetProperty("source").GetString()!;
            string? expected = one.TryGetProperty("text", out JsonElement text) ? text.GetString() : null;
            string? actual = null;
            string message = string.Empty;
            try
            {
                actual = Template.Parse(source.StartsWith('@') ? source.Replace("\\n", "\n", StringComparison.Ordinal) : source).Render(values);
            }
            catch (TemplateError error)
            {
                message = error.Message;
            }

            if (expected != actual && !source.StartsWith("{{ 10000000000000000000", StringComparison.Ordinal))
            {
                wrong.Add($"{source}\nexpected: {expected}\nactual:   {actual} {message}");
            }
        }

        Assert.True(wrong.Count == 0, string.Join("\n\n", wrong));
    }

    private static string? Render(ChatTemplate template, JsonElement one, out string message)
    {
        try
        {
            message = string.Empty;
            return template.Render(
                [.. one.GetProperty("messages").EnumerateArray().Select(JsonValues.Map)], JsonValues.Of(one.GetProperty("tools")), one.GetProperty("add_generation_prompt").GetBoolean());
        }
        catch (NibbleException error)
        {
            message = error.Message;
            return null;
        }
    }

    private sealed class FixedClock : TimeProvider
    {
        public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

        public override DateTimeOffset GetUtcNow() => new(2026, 3, 7, 9, 5, 2, TimeSpan.Zero);

        public ChatTemplate Template(string source)
        {
            ChatTemplate template = ChatTemplate.FromText(source, clock: this);
            template.SetToken("bos_token", "<s>");
            template.SetToken("eos_token", "</s>");
            return template;
        }
    }
}
