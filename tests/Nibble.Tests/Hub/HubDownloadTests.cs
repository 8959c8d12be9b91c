using System.Text;
using Nibble.Hub;
using Nibble.IO;

namespace Nibble.Tests.Hub;

/// <summary>Downloading, against a server on this machine.</summary>
public sealed class HubDownloadTests : IDisposable
{
    private static readonly HubName Name = new("org/name");

    private readonly TempFolder _folder = new();
    private readonly FakeHub _hub;
    private readonly byte[] _weights = [.. Enumerable.Range(0, 3_000_000).Select(i => (byte)(i * 7 / 3))];

    public HubDownloadTests()
    {
        Environment.SetEnvironmentVariable("NIBBLE_RETRY_MS", "1");
        _hub = new FakeHub(_folder["hub"]);
        _hub.Files["config.json"] = "{\"model_type\": \"llama\"}"u8.ToArray();
        _hub.Files["model.safetensors"] = _weights;
        _hub.Files["pytorch_model.bin"] = _weights[..2000];
    }

    private string Model => Path.Combine(_folder["hub"], "models--org--name");

    public void Dispose()
    {
        _hub.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void TheCacheHasTheLayoutOfHuggingfaceHub()
    {
        HubDownload download = Pull();
        Assert.Equal(Path.Combine(Model, "snapshots", FakeHub.Commit), download.Snapshot);
        Assert.Equal(["config.json", "model.safetensors"], Directory.GetFiles(download.Snapshot).Select(Path.GetFileName).Order());
        FileInfo link = new(Path.Combine(download.Snapshot, "model.safetensors"));
        Assert.Equal($"../../blobs/{FakeHub.Sha256(_weights)}", link.LinkTarget);
        Assert.Equal(_weights, File.ReadAllBytes(link.FullName));
        Assert.Equal($"../../blobs/{FakeHub.GitSha1(_hub.Files["config.json"])}", new FileInfo(Path.Combine(download.Snapshot, "config.json")).LinkTarget);
        Assert.Equal(FakeHub.Commit, File.ReadAllText(Path.Combine(Model, "refs", "main")));
        Assert.Equal((_weights.Length + _hub.Files["config.json"].Length, 2), ((int)download.ReceivedBytes, download.Missing.Count));
    }

    [Fact]
    public void WhatIsThereIsNotAskedForAgain()
    {
        Pull();
        _hub.Requests.Clear();
        HubDownload second = Pull();
        Assert.Equal((0, 0L), (second.Missing.Count, second.ReceivedBytes));
        Assert.Single(_hub.Requests);
    }

    [Fact]
    public void AnotherCommitTakesWhatDidNotChangeFromTheCache()
    {
        Pull();
        _hub.Sha = new string('a', 40);
        _hub.Files["config.json"] = "{}"u8.ToArray();
        HubDownload second = Pull();
        Assert.Equal(2, second.ReceivedBytes);
        Assert.Equal(2, Directory.GetDirectories(Path.Combine(Model, "snapshots")).Length);
        Assert.Equal(3, Directory.GetFiles(Path.Combine(Model, "blobs")).Length);
        Assert.Equal(_hub.Sha, File.ReadAllText(Path.Combine(Model, "refs", "main")));
        Assert.Equal(_weights, File.ReadAllBytes(Path.Combine(second.Snapshot, "model.safetensors")));
    }

    [Fact]
    public void AConnectionThatBreaksGoesOn()
    {
        _hub.Cuts = 3;
        HubDownload download = Pull();
        Assert.Equal(_weights, File.ReadAllBytes(Path.Combine(download.Snapshot, "model.safetensors")));
        Assert.Contains(_hub.Requests, request => request.Server == "store" && request.What.Contains("bytes=1500000-", StringComparison.Ordinal));
    }

    /// <summary>Where a large file is, the Hub says for an hour only; downloads take longer.</summary>
    [Fact]
    public void ALinkThatExpiresIsAskedForAgain()
    {
        _hub.Cuts = 3;
        _hub.LinksExpire = true;
        HubDownload download = Pull();
        Assert.Equal(_weights, File.ReadAllBytes(Path.Combine(download.Snapshot, "model.safetensors")));
        Assert.Equal(4, _hub.Requests.Count(request => request.Server == "hub" && request.What.Contains("model.safetensors", StringComparison.Ordinal)));
    }

    [Fact]
    public void AnInterruptedDownloadKeepsWhatCame()
    {
        _hub.Cuts = 1;
        TaskCompletionSource gate = new();
        _hub.Gate = sent => sent == 0 ? Task.CompletedTask : gate.Task;
        using CancellationTokenSource stop = new();
        HubDownload first = HubDownload.Plan(_hub.Settings, Name);
        Task running = Task.Run(() => first.Run(cancellation: stop.Token));
        Assert.True(SpinWait.SpinUntil(() => Unfinished() is [{ Length: 1_500_000 }], TimeSpan.FromSeconds(30)));
        stop.Cancel();
        gate.SetResult();
        Assert.ThrowsAny<OperationCanceledException>(running.GetAwaiter().GetResult);
        Assert.False(File.Exists(Path.Combine(Model, "refs", "main")));
        // A piece may have come beside the interruption.
        long kept = Assert.Single(Unfinished()).Length;
        Assert.InRange(kept, 1_500_000, _weights.Length - 1);
        HubDownload second = HubDownload.Plan(_hub.Settings, Name);
        second.Run();
        Assert.InRange(second.ReceivedBytes, _weights.Length - kept, _weights.Length - kept + 1000);
        Assert.Equal(_weights, File.ReadAllBytes(Path.Combine(second.Snapshot, "model.safetensors")));
        Assert.Empty(Unfinished());
    }

    [Fact]
    public void APartOfAnEarlierTryIsCheckedToo()
    {
        string partial = Path.Combine(Model, "blobs", FakeHub.Sha256(_weights) + ".incomplete");
        Directory.CreateDirectory(Path.GetDirectoryName(partial)!);
        File.WriteAllBytes(partial, _weights[..1_000_000]);
        HubDownload good = HubDownload.Plan(_hub.Settings, Name);
        Assert.Equal(2_000_000 + _hub.Files["config.json"].Length, good.MissingBytes);
        good.Run();
        Assert.Equal(2_000_000 + _hub.Files["config.json"].Length, good.ReceivedBytes);
        Directory.Delete(Model, recursive: true);
        Directory.CreateDirectory(Path.GetDirectoryName(partial)!);
        File.WriteAllBytes(partial, new byte[1_000_000]);
        NibbleException error = Assert.Throws<NibbleException>(Pull);
        Assert.Equal(ErrorKind.Network, error.Kind);
        Assert.Contains("is not what the Hub says", error.Message, StringComparison.Ordinal);
        Assert.Equal(_weights, File.ReadAllBytes(Path.Combine(Pull().Snapshot, "model.safetensors")));
    }

    [Fact]
    public void DamagedContentIsRefusedAndNotKept()
    {
        _hub.Damages = true;
        NibbleException error = Assert.Throws<NibbleException>(Pull);
        Assert.Equal(ErrorKind.Network, error.Kind);
        Assert.False(File.Exists(Path.Combine(Model, "refs", "main")));
        Assert.Empty(Directory.GetFiles(Path.Combine(Model, "snapshots", FakeHub.Commit)));
        _hub.Damages = false;
        Assert.Equal(_weights, File.ReadAllBytes(Path.Combine(Pull().Snapshot, "model.safetensors")));
    }

    [Fact]
    public void TheTokenGoesToTheHubAlone()
    {
        _hub.Token = "hf_secret";
        NibbleException error = Assert.Throws<NibbleException>(Pull);
        Assert.Equal(ErrorKind.NotFound, error.Kind);
        Assert.Contains("accept them at", error.Message, StringComparison.Ordinal);
        _hub.Settings = _hub.Settings with { Token = "hf_secret" };
        Pull();
        Assert.All(_hub.Requests.Where(request => request.Server == "store"), request => Assert.Null(request.Token));
        Assert.Contains(_hub.Requests, request => request.Server == "store");
    }

    [Theory]
    [InlineData(401, "RepoNotFound", "has no model org/name, or it is private")]
    [InlineData(404, "RevisionNotFound", "has no such revision")]
    [InlineData(403, "GatedRepo", "given to those alone who accept its terms")]
    [InlineData(404, "", "has no model org/name")]
    public void RefusalsSayWhatTheyMean(int status, string code, string expected)
    {
        _hub.Refuses = (status, code);
        NibbleException error = Assert.Throws<NibbleException>(Pull);
        Assert.Equal(ErrorKind.NotFound, error.Kind);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AServerThatFailsIsAskedAgainAndNotForEver()
    {
        _hub.Refuses = (503, string.Empty);
        NibbleException error = Assert.Throws<NibbleException>(Pull);
        Assert.Equal((ErrorKind.Network, 5), (error.Kind, _hub.Requests.Count));
    }

    [Theory]
    [InlineData("../../../evil.json")]
    [InlineData("/etc/evil.json")]
    [InlineData("a//evil.json")]
    [InlineData("a\\\\..\\\\evil.json")]
    [InlineData("c:evil.json")]
    public void PathsThatLeaveTheirFolderAreRefused(string path)
    {
        _hub.Says = $$"""{"sha": "{{FakeHub.Commit}}", "siblings": [{"rfilename": "{{path}}", "size": 1, "blobId": "{{new string('a', 40)}}"}]}""";
        Assert.Equal(ErrorKind.Network, Assert.Throws<NibbleException>(Pull).Kind);
        Assert.Empty(_folder.Entries);
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("{\"sha\": \"../..\", \"siblings\": []}")]
    [InlineData("{\"sha\": 5, \"siblings\": []}")]
    [InlineData("<html>")]
    [InlineData("{\"sha\": \"0123456789abcdef0123456789abcdef01234567\", \"siblings\": [{\"rfilename\": \"a.json\", \"size\": 1, \"blobId\": \"../../evil\"}]}")]
    [InlineData("{\"sha\": \"0123456789abcdef0123456789abcdef01234567\", \"siblings\": [{\"rfilename\": \"a.json\", \"size\": -1, \"blobId\": \"0123456789abcdef0123456789abcdef01234567\"}]}")]
    public void AnswersThatMakeNoSenseAreRefused(string answer)
    {
        _hub.Says = answer;
        Assert.Equal(ErrorKind.Network, Assert.Throws<NibbleException>(Pull).Kind);
        Assert.Empty(_folder.Entries);
    }

    [Fact]
    public void AModelThatIsLargerThanTheDiskIsRefusedBeforehand()
    {
        string hash = new('b', 64);
        _hub.Says = $$$"""{"sha": "{{{FakeHub.Commit}}}", "siblings": [{"rfilename": "model.safetensors", "size": 1, "blobId": "", "lfs": {"sha256": "{{{hash}}}", "size": 4000000000000000}}]}""";
        NibbleException error = Assert.Throws<NibbleException>(Pull);
        Assert.Equal(ErrorKind.Resource, error.Kind);
        Assert.Contains("HF_HUB_CACHE", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TwoAtOnceShareTheWork()
    {
        TaskCompletionSource gate = new();
        _hub.Gate = _ => gate.Task;
        HubDownload[] both = [HubDownload.Plan(_hub.Settings, Name), HubDownload.Plan(_hub.Settings, Name)];
        int waits = 0;
        Task[] running = [.. both.Select(download => Task.Run(() => download.Run((_, isWaiting) => Interlocked.Add(ref waits, isWaiting ? 1 : 0))))];
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref waits) > 0, TimeSpan.FromSeconds(30)));
        gate.SetResult();
        await Task.WhenAll(running).WaitAsync(TimeSpan.FromSeconds(60));
        // Each file came once.
        Assert.Equal(both[0].Files.Sum(file => file.Bytes), both.Sum(download => download.ReceivedBytes));
        Assert.Equal(_weights, File.ReadAllBytes(Path.Combine(both[0].Snapshot, "model.safetensors")));
    }

    [Fact]
    public void ALockThatIsNotOursIsSaid()
    {
        // What the system says of a folder in a file's place is what it says of another user's file.
        Directory.CreateDirectory(Path.Combine(_folder["hub"], ".locks", "models--org--name", FakeHub.Sha256(_weights) + ".lock"));
        NibbleException error = Assert.Throws<NibbleException>(Pull);
        Assert.Equal(ErrorKind.Resource, error.Kind);
        Assert.Contains("HF_HUB_CACHE", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AFileThatFailsIsSaidBeforeTheOthersAreThere()
    {
        string locks = Path.Combine(_folder["hub"], ".locks", "models--org--name");
        Directory.CreateDirectory(Path.Combine(locks, FakeHub.Sha256(_weights) + ".lock"));
        using FileStream other = HubLinks.Hold(Path.Combine(locks, FakeHub.GitSha1(_hub.Files["config.json"]) + ".lock"), () => { }, default);
        NibbleException error = await Assert.ThrowsAsync<NibbleException>(() => Task.Run(Pull).WaitAsync(TimeSpan.FromSeconds(60)));
        Assert.Contains("can't be locked", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ARenamedModelKeepsTheNameThatItWasAskedBy()
    {
        HubDownload download = HubDownload.Plan(_hub.Settings, new HubName("old/name"));
        download.Run();
        Assert.Equal("org/name", download.NameNow);
        Assert.NotNull(new HubCache(_hub.Settings.CachePath).Snapshot(new HubName("old/name")));
    }

    [Fact]
    public void OfflineAsksNothing()
    {
        _hub.Settings = _hub.Settings with { Offline = true };
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(Pull).Kind);
        Assert.Empty(_hub.Requests);
    }

    private HubDownload Pull()
    {
        HubDownload download = HubDownload.Plan(_hub.Settings, Name);
        download.Run();
        return download;
    }

    private FileInfo[] Unfinished() => Directory.Exists(Model) ? [.. new DirectoryInfo(Model).GetFiles("*.incomplete", SearchOption.AllDirectories).Where(file => file.Exists && file.Length > 0)] : [];
}
