using System.Xml;
using System.Xml.Linq;
using Nibble.IO;

namespace Nibble.Data.Remote;

/// <summary>
/// Amazon S3 and what speaks its interface. <c>AWS_ACCESS_KEY_ID</c>, <c>AWS_SECRET_ACCESS_KEY</c> and <c>AWS_SESSION_TOKEN</c> sign requests; without them
/// objects are read as public. <c>AWS_REGION</c> (or <c>AWS_DEFAULT_REGION</c>) is the region, <c>AWS_ENDPOINT_URL_S3</c> (or <c>AWS_ENDPOINT_URL</c>) another server.
/// </summary>
internal sealed class S3Store : ObjectStore
{
    private static readonly XmlReaderSettings SafeXml = new() { DtdProcessing = DtdProcessing.Prohibit, XmlResolver = null, MaxCharactersInDocument = 64 << 20 };
    private readonly string _root;

    private S3Store(RemoteClient client, string scheme, string bucket, string root)
        : base(client, scheme, bucket) => _root = root;

    /// <summary>The bucket, by the variables of the environment.</summary>
    public static S3Store Open(string bucket)
    {
        string? endpoint = Variable("AWS_ENDPOINT_URL_S3") ?? Variable("AWS_ENDPOINT_URL");
        string region = Variable("AWS_REGION") ?? Variable("AWS_DEFAULT_REGION") ?? "us-east-1";
        RemoteClient client = new(Variable("AWS_ACCESS_KEY_ID") is { } key && Variable("AWS_SECRET_ACCESS_KEY") is { } secret
            ? new AwsSigner(key, secret, Variable("AWS_SESSION_TOKEN"), region, TimeProvider.System)
            : null);
        // A bucket with points has no certificate of its own as a host name; other servers often know no host names at all.
        string root = endpoint is not null ? $"{endpoint.TrimEnd('/')}/{bucket}"
            : bucket.Contains('.', StringComparison.Ordinal) ? $"https://s3.{region}.amazonaws.com/{bucket}"
            : $"https://{bucket}.s3.{region}.amazonaws.com";
        return new S3Store(client, "s3", bucket, root);
    }

    /// <summary>Google's store by its HMAC keys, through the interface that it shares with S3.</summary>
    public static S3Store OpenGoogle(string bucket, string endpoint, string key, string secret) =>
        new(new RemoteClient(new AwsSigner(key, secret, null, "auto", TimeProvider.System)), "gs", bucket, $"{endpoint.TrimEnd('/')}/{bucket}");

    /// <summary>A variable that is set.</summary>
    public static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    /// <inheritdoc/>
    protected override Uri AddressOf(string key) => new($"{_root}/{Escape(key, keepSlashes: true)}");

    /// <inheritdoc/>
    protected override Uri ListAddress(string prefix, string? next) =>
        new($"{_root}/?{(next is null ? string.Empty : $"continuation-token={Escape(next, keepSlashes: false)}&")}list-type=2&prefix={Escape(prefix, keepSlashes: false)}");

    /// <inheritdoc/>
    protected override string? ReadList(Stream body, List<string> keys)
    {
        try
        {
            using XmlReader reader = XmlReader.Create(body, SafeXml);
            XElement root = XDocument.Load(reader).Root!;
            keys.AddRange(root.Elements().Where(one => one.Name.LocalName == "Contents").Select(one => Child(one, "Key")).OfType<string>());
            return Child(root, "IsTruncated") == "true" ? Child(root, "NextContinuationToken") : null;
        }
        catch (XmlException error)
        {
            throw new NibbleException(ErrorKind.Network, $"the list of {NameOf(string.Empty)} can't be read", error.Message, "check the endpoint", error);
        }
    }

    private static string? Child(XElement element, string name) => element.Elements().FirstOrDefault(one => one.Name.LocalName == name)?.Value;
}
