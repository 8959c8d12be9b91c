using Nibble.IO;

namespace Nibble.SystemTests;

public sealed class KilledWriterTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-kill-").FullName;

    [Fact]
    public void AFileThatWasNotCommittedIsNeverSeenAndItsRemainsGo()
    {
        string target = Path.Combine(_folder, "a");
        AtomicFile.WriteAllText(target, "old");
        Victim.Start("file", target).Kill(after: TimeSpan.Zero);
        Assert.Equal("old", File.ReadAllText(target));
        Assert.Equal(2, Directory.GetFiles(_folder).Length);
        AtomicFile.WriteAllText(target, "new");
        Assert.Equal([target], Directory.GetFiles(_folder));
    }

    [Fact]
    public void ALivingWriterKeepsItsTemporaryFile()
    {
        string target = Path.Combine(_folder, "a");
        System.Diagnostics.Process writer = Victim.Start("file", target);
        AtomicFile.WriteAllText(target, "other");
        Assert.Equal(2, Directory.GetFiles(_folder).Length);
        writer.Kill(after: TimeSpan.Zero);
    }

    [Fact]
    public void AFolderThatWasNotCommittedIsNeverSeenAndItsRemainsGo()
    {
        string target = Path.Combine(_folder, "out");
        Directory.CreateDirectory(target);
        File.WriteAllText(Path.Combine(target, "kept"), "x");
        System.Diagnostics.Process writer = Victim.Start("folder", target);
        using (OutputFolder.Create(target, force: true))
        {
            Assert.Equal(3, Directory.GetDirectories(_folder).Length);
        }

        writer.Kill(after: TimeSpan.Zero);
        Assert.Equal(["kept"], Directory.GetFiles(target).Select(file => Path.GetFileName(file)));
        OutputFolder.Create(target, force: true).Dispose();
        Assert.Equal([target], Directory.GetDirectories(_folder));
    }

    [Fact]
    public void AReplacedFileIsWholeAtAnyMomentOfAKill()
    {
        string target = Path.Combine(_folder, "a");
        for (int i = 0; i < 5; i++)
        {
            Victim.Start("replace", target).Kill(after: TimeSpan.FromMilliseconds(37 * (i + 1)));
            if (File.Exists(target))
            {
                byte[] bytes = File.ReadAllBytes(target);
                Assert.Equal(300_000, bytes.Length);
                Assert.Equal(-1, bytes.AsSpan().IndexOfAnyExcept(bytes[0]));
            }
        }
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
