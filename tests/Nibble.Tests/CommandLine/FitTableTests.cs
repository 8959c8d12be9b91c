using Nibble.Cli;
using Spectre.Console;

namespace Nibble.Tests.CommandLine;

/// <summary>Tables in terminals of any width.</summary>
public class FitTableTests
{
    private static readonly FitColumn[] Columns =
    [
        new("method", Wraps: true), new("perplexity", IsNumber: true), new("÷ baseline", IsNumber: true), new("KL, nats", IsNumber: true, Rank: 2), new("weights, MB", IsNumber: true), new("energy, J", IsNumber: true, Rank: 3),
        new("peer", IsNumber: true),
    ];

    [Theory]
    [InlineData(200)]
    [InlineData(80)]
    [InlineData(72)]
    [InlineData(60)]
    public void Numbers_keep_one_line_and_a_line_keeps_to_the_terminal(int width)
    {
        string[] lines = Written(width);

        string row = Assert.Single(lines, line => line.Contains("9.993", StringComparison.Ordinal));
        Assert.Contains("1.100 (1.093–1.107)", row, StringComparison.Ordinal);
        Assert.EndsWith("8.65", row.Replace("27.3", string.Empty, StringComparison.Ordinal).TrimEnd(), StringComparison.Ordinal);
        Assert.All(lines, line => Assert.InRange(line.Length, 0, width));
        Assert.DoesNotContain(lines, line => line.Contains('…', StringComparison.Ordinal));
    }

    [Fact]
    public void What_a_narrow_terminal_leaves_out_is_named()
    {
        Assert.DoesNotContain("not shown", string.Concat(Written(200)), StringComparison.Ordinal);
        Assert.Contains("not shown, for want of width: energy in J", Written(66));
        Assert.Contains("not shown, for want of width: KL in nats; energy in J", Written(58));
    }

    [Fact]
    public void A_column_without_content_is_not_shown() => Assert.DoesNotContain("peer", string.Concat(Written(200)), StringComparison.Ordinal);

    [Fact]
    public void Texts_may_break_where_numbers_may_not() => Assert.Contains(Written(60), line => line.Trim() == "quantization");

    [Theory]
    [InlineData(0, 10, "")]
    [InlineData(1e-30, 10, "")]
    [InlineData(0.5, 10, "10 s left")]
    [InlineData(0.01, 60, "99 min left")]
    [InlineData(0.01, 3600, "99.0 h left")]
    [InlineData(1, 10, "0 s left")]
    [InlineData(double.NaN, 10, "")]
    public void The_time_left_never_overflows(double share, int seconds, string expected) => Assert.Equal(expected, TimeLeftColumn.Text(share, TimeSpan.FromSeconds(seconds)));

    private static string[] Written(int width)
    {
        using StringWriter writer = new();
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer), Ansi = AnsiSupport.No, ColorSystem = ColorSystemSupport.NoColors });
        console.Profile.Width = width;
        FitTable table = new(Columns);
        table.AddRow("F32", "9.087", "–", "–", "40.2", "34.7", string.Empty);
        table.AddRow("NF4 + double quantization", "9.993", "1.100 [dim](1.093–1.107)[/]", "0.118", "8.65", "27.3", string.Empty);
        table.Write(console);
        return writer.ToString().ReplaceLineEndings("\n").Split('\n');
    }
}
