namespace Nibble.IO;

/// <summary>
/// A folder that appears whole or not at all: files are written into a sibling temporary folder, which takes the target's name
/// at <see cref="Commit"/>. Without it the temporary folder is deleted.
/// </summary>
public sealed class OutputFolder : IDisposable
{
    private const string OldSuffix = ".nibble-old";
    private const string LockName = ".nibble-lock";

    private readonly string _target;
    private readonly bool _force;
    private readonly FileStream _lock;
    private bool _done;

    private OutputFolder(string target, string temporary, bool force, FileStream @lock)
    {
        _target = target;
        _force = force;
        Path = temporary;
        _lock = @lock;
    }

    /// <summary>The temporary folder: write here until <see cref="Commit"/>.</summary>
    public string Path { get; }

    /// <summary>The folder that <see cref="Commit"/> makes.</summary>
    public string Target => _target;

    /// <summary>Starts an output folder.</summary>
    /// <param name="path">The target; missing parent folders are made.</param>
    /// <param name="force">True replaces an existing folder; false refuses one that is not empty.</param>
    public static OutputFolder Create(string path, bool force = false)
    {
        string target = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));
        string? parent = System.IO.Path.GetDirectoryName(target);
        if (Directory.Exists(parent))
        {
            AtomicFile.Attempt(path, 0, () => Recover(target));
        }

        Check(path, target, force);
        return AtomicFile.Attempt(path, 0, () =>
        {
            Directory.CreateDirectory(parent!);
            FileStream held = Temporary.Claim(target, Hold, LockOf);
            return new OutputFolder(target, System.IO.Path.GetDirectoryName(held.Name)!, force, held);
        });
    }

    /// <summary>Refuses at once, before any work, what <see cref="Create"/> would refuse.</summary>
    public static void Check(string path, bool force = false) =>
        Check(path, System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path)), force);

    /// <summary>The path of a file inside the folder; use it with <see cref="AtomicFile"/>.</summary>
    public string File(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>Gives the folder its name; an old folder goes only after the new one is complete.</summary>
    /// <exception cref="NibbleException">Without force: somebody else wrote the target meanwhile. It stays; this folder gets another name, which the error tells.</exception>
    public void Commit()
    {
        ObjectDisposedException.ThrowIf(_done, this);
        string? aside = AtomicFile.Attempt(_target, 0, () =>
        {
            FolderSync.Flush(Path);
            _lock.Dispose();
            System.IO.File.Delete(LockOf(Path));
            string? old = null;
            if (!_force && IsTaken(_target))
            {
                return SetAside();
            }

            if (Directory.Exists(_target))
            {
                old = Temporary.NameFor(_target, OldSuffix);
                Directory.Move(_target, old);
            }

            Directory.Move(Path, _target);
            _done = true;
            FolderSync.Flush(System.IO.Path.GetDirectoryName(_target)!);
            if (old != null)
            {
                Directory.Delete(old, recursive: true);
            }

            return null;
        });
        if (aside is not null)
        {
            Throw.Failed($"output folder {_target} appeared while this was written", "nothing is overwritten without being asked to", $"what was written is whole, in {aside}: rename it, or delete one of them");
        }
    }

    // The work may have taken hours: it is kept.
    private string SetAside()
    {
        string aside = Enumerable.Range(2, int.MaxValue - 2).Select(n => $"{_target}-{n}").First(name => !System.IO.Path.Exists(name));
        Directory.Move(Path, aside);
        _done = true;
        return aside;
    }

    private static bool IsTaken(string target) => Directory.Exists(target) && Directory.EnumerateFileSystemEntries(target).Any();

    /// <summary>Deletes the temporary folder unless <see cref="Commit"/> was called.</summary>
    public void Dispose()
    {
        if (!_done)
        {
            _done = true;
            _lock.Dispose();
            Directory.Delete(Path, recursive: true);
        }
    }

    private static void Check(string path, string target, bool force)
    {
        if (System.IO.File.Exists(target))
        {
            Throw.Usage($"output {path} is a file", "a folder is written here", "choose another output");
        }

        if (!IsTaken(target))
        {
            return;
        }

        if (!force)
        {
            Throw.Usage($"output folder {path} exists and is not empty", "nothing is overwritten without being asked to", "choose another output, or add --force to replace it");
        }

        // --force deletes the folder: a slip of the keyboard must not cost somebody their home or their sources.
        string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        string working = Directory.GetCurrentDirectory() + System.IO.Path.DirectorySeparatorChar;
        string inside = target + (target.EndsWith(System.IO.Path.DirectorySeparatorChar) ? string.Empty : System.IO.Path.DirectorySeparatorChar);
        if (working.StartsWith(inside, StringComparison.Ordinal) || (home + System.IO.Path.DirectorySeparatorChar).StartsWith(inside, StringComparison.Ordinal)
            || Directory.Exists(System.IO.Path.Combine(target, ".git")))
        {
            Throw.Usage($"output folder {path} is not replaced, even with --force", "it is the working folder, the home folder, one above them, or a repository", "choose another output");
        }
    }

    private static FileStream Hold(string temporary)
    {
        Directory.CreateDirectory(temporary);
        return new FileStream(LockOf(temporary), FileMode.CreateNew, FileAccess.Write, FileShare.None);
    }

    private static string LockOf(string temporary) => System.IO.Path.Combine(temporary, LockName);

    /// <summary>Clears what a killed process left: its temporary folders, and an old folder that was moved but not yet replaced.</summary>
    private static void Recover(string target)
    {
        foreach (string old in Temporary.Leftovers(target, OldSuffix, Directory.EnumerateDirectories))
        {
            if (Directory.Exists(target))
            {
                Directory.Delete(old, recursive: true);
            }
            else
            {
                Directory.Move(old, target);
            }
        }

        foreach (string path in Temporary.Leftovers(target, Temporary.Suffix, Directory.EnumerateDirectories))
        {
            if (!IsHeld(path))
            {
                Remove(path);
            }
        }
    }

    private static void Remove(string path)
    {
        try
        {
            Directory.Delete(path, recursive: true);
        }
        catch (DirectoryNotFoundException)
        {
            // Another writer of this target cleared the same leftover.
        }
    }

    private static bool IsHeld(string temporary)
    {
        string path = LockOf(temporary);
        if (!System.IO.File.Exists(path))
        {
            return false;
        }

        try
        {
            using FileStream free = new(path, FileMode.Open, FileAccess.Write, FileShare.None);
            return false;
        }
        catch (IOException)
        {
            return true;
        }
    }
}
