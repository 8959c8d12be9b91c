using Nibble.Data.Remote;
using Nibble.Data.Sources;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Xunit;

namespace Nibble.Tests.Data;

/// <summary>Data behind http, s3:// and gs://, against a server on this machine.</summary>
public sealed class RemoteTests : IDisposable
{
    private static readonly string[] Variables =
        ["AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "STORAGE_EMULATOR_HOST", "GOOGLE_OAUTH_ACCESS_TOKEN", "NIBBLE_RETRY_MS"];

    private readonly ObjectServer _server = new();
    private readonly byte[] _bytes = [.. Enumerable.Range(0, 5000).Select(i => (byte)(i * 7))];

    public RemoteTests()
    {
        Environment.SetEnvironmentVariable("NIBBLE_RETRY_MS", "1");
        Environment.SetEnvironmentVariable("AWS_ENDPOINT_URL_S3", _server.Address);
        Environment.SetEnvironmentVariable("STORAGE_EMULATOR_HOST", _server.Address);
        _server.Objects["a b/ü.bin"] = _bytes;
        _server.Objects["set/data/train-00000-of-00001.jsonl"] = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n"u8.ToArray();
        _server.Objects["set/data/test-00000-of-00001.jsonl"] = "{\"text\": \"three\"}\n"u8.ToArray();
        _server.Objects["set/data/validation-00000-of-00001.parquet"] = File.ReadAllBytes(Path.Combine(TestData.Goldens, "parquet", "dictionary-snappy.parquet"));
    }

    public void Dispose()
    {
        _server.Dispose();
        Variables.ToList().ForEach(name => Environment.SetEnvironmentVariable(name, null));
    }

    [Theory]
    [InlineData("s3://bucket/")]
    [InlineData("gs://bucket/")]
    [InlineData("HTTP/bucket/")]
    public void ObjectsAreReadByRanges(string root)
    {
        string key = root.StartsWith("HTTP", StringComparison.Ordinal) ? "a%20b/%C3%BC.bin" : "a b/ü.bin";
        DataObject file = DataPlace.Open(root.Replace("HTTP", _server.Address, StringComparison.Ordinal) + key).File!;
        byte[] part = new byte[100];
        file.ReadAt(1234, part);
        Assert.Equal(5000, file.Length);
        Assert.Equal(_bytes[1234..1334], part);
        using MemoryStream rest = new();
        file.Open(4000).CopyTo(rest);
        Assert.Equal(_bytes[4000..], rest.ToArray());
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => file.ReadAt(4990, new byte[100])).Kind);
    }

    [Theory]
    [InlineData("s3://bucket/set")]
    [InlineData("gs://bucket/set")]
    public void FoldersOfObjectsHaveSplits(string folder)
    {
        Assert.Equal(["three"], TextSource.Load(folder).Documents);
        Nibble.Data.DataSet train = Nibble.Data.DataSet.Open(folder, null, Limits.Default, "train");
        Assert.Equal(2, train.Files.SelectMany(train.Rows).Count());
        Nibble.Data.DataSet parquet = Nibble.Data.DataSet.Open(folder, "validation", Limits.Default, "train");
        Assert.Equal(40, parquet.Files.SelectMany(parquet.Rows).Count());
    }

    [Fact]
    public void BrokenConnectionsGoOnWhereTheyStopped()
    {
        DataObject file = DataPlace.Open("s3://bucket/a b/ü.bin").File!;
        _server.CutAfter = 700;
        _server.Fail(3);
        using MemoryStream all = new();
        file.Open().CopyTo(all);
        Assert.Equal(_bytes, all.ToArray());
        _server.Fail(100);
        NibbleException error = Assert.Throws<NibbleException>(() => file.Open().CopyTo(all));
        Assert.Equal(ErrorKind.Network, error.Kind);
        Assert.Contains("5 tries", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ASilentConnectionCountsAsBroken()
    {
        RemoteClient client = new() { FirstPause = TimeSpan.FromMilliseconds(1), Patience = TimeSpan.FromMilliseconds(300) };
        _server.CutAfter = 2000;
        _server.Silence = TimeSpan.FromMinutes(5);
        using MemoryStream all = new();
        Task reading = Task.Run(() => HttpObject.Find(client, new Uri($"{_server.Address}/bucket/a%20b/%C3%BC.bin"), "x")!.Open().CopyTo(all));
        await reading.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(_bytes, all.ToArray());
        Assert.Contains(_server.Requests, request => request.Contains("bytes=4000-", StringComparison.Ordinal));
    }

    [Fact]
    public void CredentialsAreSentAndWhatIsMissingIsSaid()
    {
        Environment.SetEnvironmentVariable("GOOGLE_OAUTH_ACCESS_TOKEN", "tok");
        DataPlace.Open("gs://bucket/a b/ü.bin");
        Assert.Contains(_server.Requests, request => request.Contains("Authorization: Bearer tok", StringComparison.Ordinal));
        Environment.SetEnvironmentVariable("AWS_ACCESS_KEY_ID", "id");
        Environment.SetEnvironmentVariable("AWS_SECRET_ACCESS_KEY", "secret");
        DataPlace.Open("s3://bucket/a b/ü.bin");
        Assert.Contains(_server.Requests, request => request.Contains("AWS4-HMAC-SHA256 Credential=id/", StringComparison.Ordinal) && request.Contains("/us-east-1/s3/aws4_request", StringComparison.Ordinal));
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => DataPlace.Open("s3://bucket/none")).Kind);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => DataPlace.Open(_server.Address + "/bucket/none")).Kind);
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => DataPlace.Open("ftp://host/x")).Kind);
        Assert.DoesNotContain("pw", Assert.Throws<NibbleException>(() => DataPlace.Open("https://me:pw@host/x")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void CredentialsDoNotFollowToAnotherServer()
    {
        using ObjectServer other = new();
        other.Objects["a b/ü.bin"] = _bytes;
        _server.Elsewhere = other.Address;
        Environment.SetEnvironmentVariable("GOOGLE_OAUTH_ACCESS_TOKEN", "tok");
        byte[] part = new byte[100];
        DataPlace.Open("gs://bucket/a b/ü.bin").File!.ReadAt(1234, part);
        Assert.Equal(_bytes[1234..1334], part);
        Assert.Contains(_server.Requests, request => request.Contains("Bearer tok", StringComparison.Ordinal));
        Assert.DoesNotContain(other.Requests, request => request.Contains("Authorization", StringComparison.Ordinal));
        Assert.Equal(2, other.Requests.Count);
    }

    [Fact]
    public void SignaturesEqualAmazonsExample()
    {
        // "GET Object" of the page that AwsSigner names.
        using HttpRequestMessage request = new(HttpMethod.Get, "https://examplebucket.s3.amazonaws.com/test.txt");
        request.Headers.Range = new System.Net.Http.Headers.RangeHeaderValue(0, 9);
        new AwsSigner("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", null, "us-east-1", new Clock()).Sign(request);
        string authorization = request.Headers.GetValues("Authorization").Single();
        Assert.EndsWith("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", authorization, StringComparison.Ordinal);
        Assert.Contains("SignedHeaders=host;range;x-amz-content-sha256;x-amz-date", authorization, StringComparison.Ordinal);
    }

    private sealed class Clock : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => new(2013, 5, 24, 0, 0, 0, TimeSpan.Zero);
    }
}
