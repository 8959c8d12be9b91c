using Nibble.IO;

namespace Nibble.Tests.IO;

public class AtomicFileTests
{
    [Fact]
    public void WritesAndReplaces()
    {
        using TempFolder folder = new();
        AtomicFile.WriteAllText(folder["a"], "one");
        AtomicFile.WriteAllText(folder["a"], "zwei ä");
        AtomicFile.Copy(folder["a"], folder["b"]);
        Assert.Equal("zwei ä", File.ReadAllText(folder["b"]));
        Assert.Equal(["a", "b"], folder.Entries);
    }

    [Fact]
    public void TheOldFileStandsUntilTheCommit()
    {
        using TempFolder folder = new();
        AtomicFile.WriteAllText(folder["a"], "old");
        using (AtomicFile file = AtomicFile.Create(folder["a"], 1 << 20))
        {
            file.Write("new"u8);
            Assert.Equal("old", File.ReadAllText(folder["a"]));
        }

        Assert.Equal(["a"], folder.Entries);
        Assert.Equal("old", File.ReadAllText(folder["a"]));
    }

    [Fact]
    public void ReservedSpaceDoesNotLengthenTheFile()
    {
        using TempFolder folder = new();
        using (AtomicFile file = AtomicFile.Create(folder["a"], 1 << 20))
        {
            file.Write("abc"u8);
            file.Commit();
        }

        Assert.Equal(3, new FileInfo(folder["a"]).Length);
    }

    [Fact]
    public void LeftoversOfKilledWritersGoAndOthersStay()
    {
        using TempFolder folder = new();
        string[] stay = [".a.1234567.nibble-tmp", ".a.1234567g.nibble-tmp", ".b.12345678.nibble-tmp", "a.12345678.nibble-tmp"];
        foreach (string name in (string[])[.. stay, ".a.12345678.nibble-tmp", ".a.deadbeef.nibble-tmp"])
        {
            File.WriteAllText(folder[name], "x");
        }

        AtomicFile.WriteAllText(folder["a"], "new");
        Assert.Equal(stay.Append("a").Order(StringComparer.Ordinal), folder.Entries);
    }

    [Fact]
    public void TwoWritersOfOneTargetDoNotDisturbEachOther()
    {
        using TempFolder folder = new();
        using AtomicFile first = AtomicFile.Create(folder["a"]);
        using AtomicFile second = AtomicFile.Create(folder["a"]);
        first.Write("first"u8);
        second.Write("second"u8);
        first.Commit();
        Assert.Equal("first", File.ReadAllText(folder["a"]));
        second.Commit();
        Assert.Equal("second", File.ReadAllText(folder["a"]));
        Assert.Equal(["a"], folder.Entries);
    }

    [Fact]
    public void AMissingFolderIsNotFoundAndAFolderIsNoFile()
    {
        using TempFolder folder = new();
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => AtomicFile.Create(folder["no/a"])).Kind);
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => AtomicFile.Create(folder.Path)).Kind);
    }

    [Fact]
    public void ParallelWritersLeaveOneWholeFile()
    {
        using TempFolder folder = new();
        string[] texts = Enumerable.Range(0, 16).Select(i => new string((char)('a' + i), 5000)).ToArray();
        ParallelOptions many = new() { MaxDegreeOfParallelism = 8 };
        for (int round = 0; round < 8; round++)
        {
            Parallel.ForEach(texts, many, text => AtomicFile.WriteAllText(folder["a"], text));
            Assert.Contains(File.ReadAllText(folder["a"]), texts);
            Assert.Equal(["a"], folder.Entries);
        }
    }

    [Fact]
    public void ANameThatACleanerTookIsGivenUpForANewOne()
    {
        using TempFolder folder = new();
        int calls = 0;
        FileStream Create(string name)
        {
            FileStream stream = new(name, FileMode.CreateNew, FileAccess.Write, FileShare.None);
            if (++calls == 1)
            {
                File.Delete(name);
            }

            return stream;
        }

        using FileStream held = Temporary.Claim(folder["a"], Create, name => name);
        Assert.Equal(2, calls);
        Assert.True(File.Exists(held.Name));
    }

    [Fact]
    public void AFileThatACleanerHoldsIsGivenUpForANewOne()
    {
        using TempFolder folder = new();
        string? first = null;
        FileStream Create(string name)
        {
            if (first != null)
            {
                return new FileStream(name, FileMode.CreateNew, FileAccess.Write, FileShare.None);
            }

            first = name;
            using FileStream cleaner = new(name, FileMode.CreateNew, FileAccess.Write, FileShare.None);
            return new FileStream(name, FileMode.Open, FileAccess.Write, FileShare.None);
        }

        using FileStream held = Temporary.Claim(folder["a"], Create, name => name);
        Assert.NotEqual(first, held.Name);
    }
}
