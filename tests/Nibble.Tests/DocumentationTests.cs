using System.Text.RegularExpressions;

namespace Nibble.Tests;

/// <summary>Links of the pages lead somewhere, and every variable that the code reads is told.</summary>
public partial class DocumentationTests
{
    private static readonly string Root = Path.GetFullPath(Path.Combine(TestData.Assets, ".."));

    private static IEnumerable<string> Pages => new[] { "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "assets/README.md" }
        .Select(name => Path.Combine(Root, name)).Concat(Directory.EnumerateFiles(Path.Combine(Root, "docs"), "*.md", SearchOption.AllDirectories));

    [Fact]
    public void LinksLeadToFilesAndHeadings()
    {
        List<string> broken = [];
        foreach (string page in Pages)
        {
            foreach (string link in Link().Matches(File.ReadAllText(page)).Select(match => match.Groups[1].Value).Where(link => !link.Contains("://", StringComparison.Ordinal)))
            {
                string[] parts = link.Split('#', 2);
                string target = parts[0].Length == 0 ? page : Path.Combine(Path.GetDirectoryName(page)!, parts[0]);
                bool found = Path.Exists(target) && (parts.Length == 1 || Heading().Matches(File.ReadAllText(target)).Any(match => Anchor(match.Groups[1].Value) == parts[1]));
                if (!found)
                {
                    broken.Add($"{Path.GetRelativePath(Root, page)}: {link}");
                }
            }
        }

        Assert.Empty(broken);
    }

    [Fact]
    public void VariablesAreTold()
    {
        string pages = string.Concat(Directory.EnumerateFiles(Path.Combine(Root, "docs"), "*.md").Select(File.ReadAllText));
        string[] read = [.. Directory.EnumerateFiles(Path.Combine(Root, "src"), "*.cs", SearchOption.AllDirectories)
            .Where(file => !file.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal))
            .SelectMany(file => Variable().Matches(File.ReadAllText(file)).Select(match => match.Groups[1].Value)).Distinct()];
        Assert.True(read.Length > 8);
        // NIBBLE_CHILD is what the command tells its own children.
        Assert.DoesNotContain(read, name => name != "NIBBLE_CHILD" && !pages.Contains(name, StringComparison.Ordinal));
    }

    private static string Anchor(string heading) => NoPartOfAnAnchor().Replace(heading.Trim().ToLowerInvariant(), string.Empty).Replace(' ', '-');

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex("^#+ (.*)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NoPartOfAnAnchor();

    [GeneratedRegex("\"(NIBBLE_[A-Z_]+)\"")]
    private static partial Regex Variable();
}
