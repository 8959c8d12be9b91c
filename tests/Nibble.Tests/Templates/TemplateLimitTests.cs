using System.Text;
using Nibble.IO;
using Nibble.Templates;
using Xunit;

namespace Nibble.Tests.Templates;

/// <summary>A template is untrusted input: it ends, it stays small, and it reaches nothing.</summary>
public class TemplateLimitTests
{
    private static readonly Limits Small = Limits.Default with { TemplateSteps = 20_000, TemplateOutput = 10_000 };

    [Theory]
    [InlineData("{% for a in range(9999) %}{% for b in range(9999) %}{% set x = a %}{% endfor %}{% endfor %}", "steps")]
    [InlineData("{{ 'x' * 1000000000 }}", "characters")]
    [InlineData("{% for a in range(500) %}{{ 'x' * 100 }}{% endfor %}", "characters")]
    [InlineData("{% set ns = namespace(s='x') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}", "characters")]
    [InlineData("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "steps")]
    [InlineData("{{ range(1000000000) }}", "range")]
    [InlineData("{{ 2 ** 100 }}", "64 bits")]
    [InlineData("{{ 9223372036854775807 + 1 }}", "64 bits")]
    [InlineData("{{ 'a'.__class__.__mro__ }}", "undefined")]
    [InlineData("{{ messages.__class__.x }}", "undefined")]
    [InlineData("{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}", "steps")]
    [InlineData("{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}", "steps")]
    [InlineData("{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x ~ '' }}", "steps")]
    [InlineData("{% set ns = namespace(x=[], y=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}", "steps")]
    [InlineData("{{ (-9223372036854775807 - 1) | abs }}", "64 bits")]
    [InlineData("{{ 1e }}", "no number")]
    [InlineData("{{ dict(a=1, a=2) }}", "given twice")]
    [InlineData("{% include 'x' %}", "subset")]
    [InlineData("{{ f(*a) }}", "subset")]
    [InlineData("{% for x in range(3) recursive %}{% endfor %}", "subset")]
    [InlineData("{{ [1, 2] | sort(attribute='x') | first < {} }}", "ordered")]
    public void IsStopped(string source, string because)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => ChatTemplate.FromText(source, Small).Render([new ChatMessage("user", "x")], true));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains(because, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DeepNestingIsRefusedNotCrashed()
    {
        foreach (string source in new[]
        {
            "{{ " + new string('(', 100_000) + "1" + new string(')', 100_000) + " }}",
            "{{ " + string.Concat(Enumerable.Repeat("not ", 100_000)) + "1 }}",
            "{{ " + new string('-', 100_000) + "1 }}",
            string.Concat(Enumerable.Repeat("{% if true %}", 50_000)),
            "{{ " + new string('[', 100_000) + new string(']', 100_000) + " }}",
        })
        {
            string message = Assert.Throws<NibbleException>(() => ChatTemplate.FromText(source)).Message;
            Assert.True(message.Contains("nested", StringComparison.Ordinal), $"{source[..20]}: {message}");
        }

        // Long chains are no nesting to the parser, but are to the evaluator.
        string chain = "{{ 1" + new StringBuilder().Insert(0, " + 1", 100_000) + " }}";
        string? text = Record.Exception(() => ChatTemplate.FromText(chain).Render([], false))?.Message;
        Assert.True(text is null || text.Contains("nested", StringComparison.Ordinal), text);
    }

    [Fact]
    public void EveryPrefixOfARealTemplateIsRefusedOrRead()
    {
        string source = File.ReadAllText(Path.Combine(TestData.Goldens, "chat-templates", "qwen.jinja"));
        for (int length = 0; length < source.Length; length += 3)
        {
            try
            {
                ChatTemplate.FromText(source[..length]).Render([new ChatMessage("user", "a")], true);
            }
            catch (NibbleException error)
            {
                Assert.Equal(ErrorKind.BadInput, error.Kind);
            }
        }
    }

    [Theory]
    [InlineData("{{ ns.x }}")]
    [InlineData("{{ ns.x == ns.y }}")]
    [InlineData("{{ [ns.x, ns.y] | sort }}")]
    [InlineData("{{ ns.x | tojson }}")]
    [InlineData("{{ ns.x | unique }}")]
    public void ValuesThatALoopNestsAreRefusedNotCrashed(string use)
    {
        string source = "{% set ns = namespace(x=[], y=[]) %}{% for i in range(10000) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}" + use;
        string? message = null;
        // A small stack has its end sooner, and fewer frames to leave.
        Thread thread = new(() => message = Record.Exception(() => ChatTemplate.FromText(source).Render([], false))?.Message, 256 << 10);
        thread.Start();
        thread.Join();
        Assert.True(message is null || message.Contains("nested", StringComparison.Ordinal), message);
    }

    [Theory]
    [InlineData("""{"chat_template": "\ud800"}""")]
    [InlineData("""{"chat_template": [{"name": "default", "template": "\ud800"}]}""")]
    [InlineData("""{"chat_template": [{"name": "\ud800", "template": "x"}]}""")]
    [InlineData("""{"chat_template": ["x"]}""")]
    [InlineData("""{"chat_template": "x", "bos_token": "\ud800"}""")]
    [InlineData("""{"chat_template": "x", "bos_token": {"content": "\ud800"}}""")]
    [InlineData("""{"chat_template": "x", "bos_token": 3}""")]
    public void ConfigsThatHoldNoTextsAreRefused(string config)
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["tokenizer_config.json"], config);
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => ChatTemplate.FromFolder(folder.Path)).Kind);
    }

    [Fact]
    public void NothingRepeatedIsNothing() => Assert.Empty(ChatTemplate.FromText("{{ '' * 4294967295 }}{{ 9223372036854775807 * '' }}").Render([], false));

    [Fact]
    public void ErrorsNameTheLine()
    {
        NibbleException parse = Assert.Throws<NibbleException>(() => ChatTemplate.FromText("a\nb\n{{ x | nope }}"));
        Assert.Contains("line 3", parse.Message, StringComparison.Ordinal);
        NibbleException run = Assert.Throws<NibbleException>(() => ChatTemplate.FromText("a\n{{ x.y }}").Render([], false));
        Assert.Contains("line 2", run.Message, StringComparison.Ordinal);
        NibbleException raised = Assert.Throws<NibbleException>(() => ChatTemplate.FromText("{{ raise_exception('users first') }}").Render([], false));
        Assert.StartsWith("the chat template refuses this conversation: users first", raised.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FoldersSayWhereTheirTemplateIs()
    {
        using TempFolder folder = new();
        NibbleException none = Assert.Throws<NibbleException>(() => ChatTemplate.FromFolder(folder.Path));
        Assert.Equal(ErrorKind.NotFound, none.Kind);
        Assert.Contains("has no chat template", none.Message, StringComparison.Ordinal);
        File.WriteAllText(folder["tokenizer_config.json"], """{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"}]}""");
        Assert.Equal("<s>x</s>", ChatTemplate.FromFolder(folder.Path).Render([new ChatMessage("user", "x")], true));
        File.WriteAllText(folder["chat_template.jinja"], "file {{ bos_token }}", new UTF8Encoding(encoderShouldEmitUTF8Identifier: true));
        Assert.Equal("file <s>", ChatTemplate.FromFolder(folder.Path).Render([], true));
    }
}
