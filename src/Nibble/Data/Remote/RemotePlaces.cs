using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Data.Remote;

/// <summary>Opens addresses: <c>https://HOST/FILE</c>, <c>s3://BUCKET/KEY</c>, <c>gs://BUCKET/KEY</c>; a key may be a folder of objects.</summary>
internal static class RemotePlaces
{
    /// <summary>Opens what an address names.</summary>
    /// <exception cref="NibbleException">There is nothing, or it can't be reached.</exception>
    public static DataPlace Open(string address)
    {
        if (!Uri.TryCreate(address, UriKind.Absolute, out Uri? uri) || uri.Scheme is not ("http" or "https" or "s3" or "gs"))
        {
            Throw.Usage($"{address} is no address that data is read from", "known are http://, https://, s3://BUCKET/KEY and gs://BUCKET/KEY", "check --data");
        }

        if (uri!.UserInfo.Length > 0)
        {
            Throw.Usage("an address must not contain credentials", "they would stand in logs and results", "set them in the environment, see docs/data.md");
        }

        if (uri.Scheme is "http" or "https")
        {
            string name = uri.Query.Length > 0 ? address : uri.GetLeftPart(UriPartial.Path);
            return new DataPlace(address, HttpObject.Find(new RemoteClient(), uri, name) ?? throw Nothing(address, "the server answers 404"), null);
        }

        string[] parts = address[(uri.Scheme.Length + 3)..].Split('/', 2);
        return InStore(address, uri.Scheme == "s3" ? S3Store.Open(parts[0]) : GoogleStore.Open(parts[0]), parts.Length > 1 ? parts[1] : string.Empty);
    }

    private static DataPlace InStore(string address, ObjectStore store, string key)
    {
        if (key.Length > 0 && !key.EndsWith('/') && store.Find(key) is { } file)
        {
            return new DataPlace(address, file, null);
        }

        string prefix = key.Length == 0 || key.EndsWith('/') ? key : key + "/";
        IReadOnlyList<string> keys = store.List(prefix);
        return keys.Count > 0 ? new DataPlace(address, null, new StoreFolder(store, prefix, keys)) : throw Nothing(address, "there is neither an object of this name nor one below it");
    }

    private static NibbleException Nothing(string address, string why) => new(ErrorKind.NotFound, $"{address} does not exist", why, "check --data");
}
