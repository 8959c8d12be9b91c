using System.Security.Cryptography;
using System.Text;
using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Hub;

/// <summary>
/// Downloads a model into the cache: several files at once, each going on where an earlier try stopped, its content checked against the hash
/// that the Hub tells before it gets its name. A branch is noted last, so a model that is there by its name is there as a whole.
/// </summary>
public sealed class HubDownload
{
    internal const string Unfinished = ".incomplete";

    private const int AtOnce = 4;
    private const int Piece = 1 << 20;

    // Left on the disk besides what is downloaded.
    private const long Reserve = 64 << 20;

    private readonly HubCache _cache;
    private readonly HubClient _client;
    private readonly HubName _name;
    private readonly HubRevision _revision;
    private long _received;

    private HubDownload(HubCache cache, HubClient client, HubName name, HubRevision revision, IReadOnlyList<HubFile> files)
    {
        (_cache, _client, _name, _revision, Files) = (cache, client, name, revision, files);
        Missing = [.. files.Where(file => !IsThere(file))];
    }

    /// <summary>The files that are wanted.</summary>
    public IReadOnlyList<HubFile> Files { get; }

    /// <summary>Those of them that are not in the cache.</summary>
    public IReadOnlyList<HubFile> Missing { get; }

    /// <summary>The model's name as it was given: the cache has it under that.</summary>
    public string Repository => _revision.Repository;

    /// <summary>The name that the Hub gives it now; another one if it was renamed.</summary>
    public string NameNow => _revision.NameNow;

    /// <summary>The commit.</summary>
    public string Commit => _revision.Commit;

    /// <summary>The folder in which the files will stand by their paths.</summary>
    public string Snapshot => _cache.SnapshotOf(_revision);

    /// <summary>Bytes that have to be received: what earlier tries received is not asked for again.</summary>
    public long MissingBytes => Missing.Sum(file => file.Bytes - Kept(file));

    /// <summary>Bytes that came so far.</summary>
    public long ReceivedBytes => Interlocked.Read(ref _received);

    /// <summary>Asks the Hub what a model consists of, and chooses what Nibble can use of it.</summary>
    /// <param name="settings">Where the Hub and the cache are.</param>
    /// <param name="name">The model.</param>
    /// <param name="patterns">Patterns of paths with * and ? to choose by instead.</param>
    /// <exception cref="NibbleException">The model is not there or not open to this user, has nothing that Nibble reads, or more than one choice.</exception>
    public static HubDownload Plan(HubSettings settings, HubName name, IReadOnlyList<string>? patterns = null)
    {
        HubClient client = new(settings);
        HubRevision revision = client.Read(name);
        return new HubDownload(new HubCache(settings.CachePath), client, name, revision, HubSelection.Choose(revision, name.File, patterns ?? []));
    }

    /// <summary>Downloads what is missing. Interrupted, it keeps what came, and the next one goes on.</summary>
    /// <param name="report">Told of a file that is there, and with true of one that another process is downloading, for which this one waits; from several threads.</param>
    /// <param name="cancellation">Ends it between two pieces.</param>
    /// <exception cref="NibbleException">The disk is too small, the network fails, or a content is not what the Hub says.</exception>
    public void Run(Action<HubFile, bool>? report = null, CancellationToken cancellation = default)
    {
        RequireSpace();
        NibbleException? failed = null;
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        try
        {
            Parallel.ForEach(Missing.OrderByDescending(file => file.Bytes), new ParallelOptions { MaxDegreeOfParallelism = AtOnce, CancellationToken = stop.Token }, file =>
            {
                try
                {
                    Fetch(file, () => report?.Invoke(file, true), stop.Token);
                }
                catch (NibbleException error)
                {
                    // Nobody should wait hours for the other files to be told of it; what they have is kept.
                    Interlocked.CompareExchange(ref failed, error, null);
                    stop.Cancel();
                    throw;
                }

                report?.Invoke(file, false);
            });
        }
        catch (Exception error) when (failed is not null && error is (AggregateException or OperationCanceledException))
        {
            throw new NibbleException(failed!.Kind, failed.What, failed.Why, failed.Remedy, error);
        }
        catch (AggregateException) when (cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellation);
        }

        _cache.Refer(_revision, _name.Revision);
    }

    private void RequireSpace()
    {
        AtomicFile.Attempt(_cache.Root, 0, () => Directory.CreateDirectory(_cache.Root));
        long need = MissingBytes;
        if (need > 0 && AtomicFile.FreeBytes(Path.Combine(_cache.Root, "x")) is { } free && free < need + Reserve)
        {
            Throw.Resource($"{_name} does not fit on the disk of {_cache.Root}", $"{need:N0} bytes are missing, {free:N0} are free", "free space ('nibble cache' lists what is kept), or set HF_HUB_CACHE to a folder elsewhere");
        }
    }

    // A snapshot's file is a link to its blob, or the file itself where links are not to be had.
    private bool IsThere(HubFile file)
    {
        FileInfo info = new(Target(file));
        return info.Exists && new FileInfo(info.ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? info.FullName) is { Exists: true } real && real.Length == file.Bytes;
    }

    private string Target(HubFile file) => Path.Combine(Snapshot, file.Path.Replace('/', Path.DirectorySeparatorChar));

    private string Partial(HubFile file) => _cache.BlobOf(Repository, file) + Unfinished;

    private long Kept(HubFile file) => File.Exists(_cache.BlobOf(Repository, file)) ? file.Bytes : File.Exists(Partial(file)) ? Math.Min(new FileInfo(Partial(file)).Length, file.Bytes) : 0;

    private void Fetch(HubFile file, Action waits, CancellationToken cancellation)
    {
        string blob = _cache.BlobOf(Repository, file);
        AtomicFile.Attempt(blob, file.Bytes, () =>
        {
            Directory.CreateDirectory(Path.GetDirectoryName(blob)!);
            Directory.CreateDirectory(Path.GetDirectoryName(Target(file))!);
        });
        using FileStream held = HubLinks.Hold(_cache.LockOf(Repository, file), waits, cancellation);
        // Another process may have brought it while this one waited.
        if (!File.Exists(blob) || new FileInfo(blob).Length != file.Bytes)
        {
            Receive(file, cancellation);
            AtomicFile.Attempt(blob, 0, () =>
            {
                File.Move(Partial(file), blob, overwrite: true);
                FolderSync.Flush(Path.GetDirectoryName(blob)!);
            });
        }

        AtomicFile.Attempt(Target(file), file.Bytes, () => HubLinks.Point(Target(file), blob));
    }

    private void Receive(HubFile file, CancellationToken cancellation)
    {
        using FileStream output = AtomicFile.Attempt(Partial(file), file.Bytes, () => new FileStream(Partial(file), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, 1));
        using IncrementalHash hash = Hash(file);
        byte[] buffer = new byte[Piece];
        long at = Begun(output, file, hash, buffer);
        if (at < file.Bytes)
        {
            DataObject source = _client.Open(_revision, file);
            using Stream input = source.Open(at);
            while (at < file.Bytes)
            {
                cancellation.ThrowIfCancellationRequested();
                int read = input.Read(buffer.AsSpan(0, (int)Math.Min(Piece, file.Bytes - at)));
                if (read == 0)
                {
                    throw new NibbleException(ErrorKind.Network, $"{source.Name} ends early", $"{at:N0} of {file.Bytes:N0} bytes came", "try again: it goes on from there");
                }

                AtomicFile.Attempt(output.Name, file.Bytes, () => output.Write(buffer, 0, read));
                hash.AppendData(buffer, 0, read);
                at += read;
                Interlocked.Add(ref _received, read);
            }
        }

        string found = Convert.ToHexStringLower(hash.GetHashAndReset());
        if (found != file.Hash)
        {
            output.SetLength(0);
            throw new NibbleException(ErrorKind.Network, $"{Repository}/{file.Path} is not what the Hub says", $"its hash is {found}, not {file.Hash}: damaged on the way, or by a mirror", "try again: it starts anew");
        }

        AtomicFile.Attempt(output.Name, 0, () => output.Flush(flushToDisk: true));
    }

    // What an earlier try received counts into the hash, and so is checked too.
    private static long Begun(FileStream output, HubFile file, IncrementalHash hash, byte[] buffer)
    {
        if (output.Length > file.Bytes)
        {
            output.SetLength(0);
        }

        for (int read; (read = output.Read(buffer, 0, buffer.Length)) > 0;)
        {
            hash.AppendData(buffer, 0, read);
        }

        return output.Position;
    }

    private static IncrementalHash Hash(HubFile file)
    {
        if (file.IsLarge)
        {
            return IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        }

        // A small file's hash is that of a git object: its kind and length stand before the content. SHA-1 is git's choice.
        IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
        hash.AppendData(Encoding.ASCII.GetBytes($"blob {file.Bytes}\0"));
        return hash;
    }
}
