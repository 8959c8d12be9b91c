using Nibble.IO;

namespace Nibble.Tests.IO;

public class OutputFolderTests
{
    [Fact]
    public void AppearsWholeAtTheCommit()
    {
        using TempFolder folder = new();
        using (OutputFolder output = OutputFolder.Create(folder["sub/out/"]))
        {
            AtomicFile.WriteAllText(output.File("a"), "1");
            Assert.False(Directory.Exists(folder["sub/out"]));
            output.Commit();
        }

        Assert.Equal(["a"], Names(folder["sub/out"]));
        Assert.Equal(["out"], Names(folder["sub"]));
    }

    [Fact]
    public void DisappearsWithoutACommit()
    {
        using TempFolder folder = new();
        using (OutputFolder output = OutputFolder.Create(folder["out"]))
        {
            AtomicFile.WriteAllText(output.File("a"), "1");
        }

        Assert.Empty(folder.Entries);
    }

    [Fact]
    public void AnExistingFolderIsRefusedUnlessEmptyOrForced()
    {
        using TempFolder folder = new();
        Write(folder["out"], "a", force: false);
        NibbleException error = Assert.Throws<NibbleException>(() => OutputFolder.Create(folder["out"]));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("--force", error.Remedy, StringComparison.Ordinal);
        Assert.Equal(["a"], Names(folder["out"]));

        Write(folder["out"], "b", force: true);
        Assert.Equal(["b"], Names(folder["out"]));
        Directory.CreateDirectory(folder["empty"]);
        Write(folder["empty"], "c", force: false);
        Assert.Equal(["empty", "out"], folder.Entries);
    }

    [Fact]
    public void AFolderThatAppearedMeanwhileIsNotReplaced()
    {
        using TempFolder folder = new();
        using (OutputFolder output = OutputFolder.Create(folder["out"]))
        {
            AtomicFile.WriteAllText(output.File("mine"), "1");
            Write(folder["out"], "theirs", force: false);
            NibbleException error = Assert.Throws<NibbleException>(output.Commit);
            Assert.Contains(folder["out-2"], error.Remedy, StringComparison.Ordinal);
        }

        Assert.Equal(["theirs"], Names(folder["out"]));
        Assert.Equal(["mine"], Names(folder["out-2"]));
        Assert.Equal(["out", "out-2"], folder.Entries);
    }

    [Fact]
    public void AnOutputIsHeldByOneAtATime()
    {
        using TempFolder folder = new();
        using (OutputLock.Hold(folder["out"]))
        {
            Assert.Equal(ErrorKind.Resource, Assert.Throws<NibbleException>(() => OutputLock.Hold(folder["out/"])).Kind);
            OutputLock.Hold(folder["other"]).Dispose();
        }

        OutputLock.Hold(folder["out"]).Dispose();
        Assert.Empty(folder.Entries);
    }

    [Fact]
    public void ForceKeepsTheOldFolderUntilTheNewOneIsWhole()
    {
        using TempFolder folder = new();
        Write(folder["out"], "a", force: false);
        using (OutputFolder output = OutputFolder.Create(folder["out"], force: true))
        {
            AtomicFile.WriteAllText(output.File("b"), "1");
        }

        Assert.Equal(["a"], Names(folder["out"]));
    }

    [Fact]
    public void FilesAndPreciousFoldersAreNeverReplaced()
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["file"], "1");
        Assert.Throws<NibbleException>(() => OutputFolder.Create(folder["file"], force: true));
        Directory.CreateDirectory(folder["repo/.git"]);
        Assert.Throws<NibbleException>(() => OutputFolder.Create(folder["repo"], force: true));
        Assert.Throws<NibbleException>(() => OutputFolder.Create(Directory.GetCurrentDirectory(), force: true));
        Assert.Throws<NibbleException>(() => OutputFolder.Create(Path.GetPathRoot(folder.Path)!, force: true));
        Assert.Throws<NibbleException>(() => OutputFolder.Create(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), force: true));
    }

    [Fact]
    public void TheRemainsOfAKilledProcessAreClearedAndAMovedOldFolderComesBack()
    {
        using TempFolder folder = new();
        Directory.CreateDirectory(folder[".out.12345678.nibble-tmp"]);
        File.WriteAllText(folder[".out.12345678.nibble-tmp/.nibble-lock"], string.Empty);
        Directory.CreateDirectory(folder[".out.87654321.nibble-old"]);
        File.WriteAllText(folder[".out.87654321.nibble-old/a"], "1");
        Assert.Throws<NibbleException>(() => OutputFolder.Create(folder["out"]));
        Assert.Equal(["a"], Names(folder["out"]));
        Assert.Equal(["out"], folder.Entries);
        using (OutputFolder other = OutputFolder.Create(folder["out"], force: true))
        {
            using OutputFolder second = OutputFolder.Create(folder["out"], force: true);
            Assert.True(Directory.Exists(other.Path));
        }

        Assert.Equal(["out"], folder.Entries);
    }

    private static void Write(string path, string name, bool force)
    {
        using OutputFolder output = OutputFolder.Create(path, force);
        AtomicFile.WriteAllText(output.File(name), "1");
        output.Commit();
    }

    private static string[] Names(string path) => Directory.GetFileSystemEntries(path).Select(entry => Path.GetFileName(entry)).Order().ToArray();
}
