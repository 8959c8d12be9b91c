using System.Text;
using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Data.Remote;

/// <summary>A bucket of an object store.</summary>
internal abstract class ObjectStore(RemoteClient client, string scheme, string bucket)
{
    private const int MostObjects = 100_000;

    /// <summary>Sends requests.</summary>
    protected RemoteClient Client => client;

    /// <summary>An object as the user would write it.</summary>
    public string NameOf(string key) => $"{scheme}://{bucket}/{key}";

    /// <summary>An object; null if there is none.</summary>
    public DataObject? Find(string key) => HttpObject.Find(client, AddressOf(key), NameOf(key));

    /// <summary>Keys that begin with <paramref name="prefix"/>, in order.</summary>
    public IReadOnlyList<string> List(string prefix)
    {
        List<string> keys = [];
        string? next = null;
        do
        {
            int before = keys.Count;
            using HttpResponseMessage response = client.Send(HttpMethod.Get, ListAddress(prefix, next), NameOf(prefix));
            if (!response.IsSuccessStatusCode)
            {
                Throw.NotFound($"{scheme}://{bucket} does not exist", $"the server answers {(int)response.StatusCode}", "check the bucket's name, and the endpoint where it is not the usual one");
            }

            using Stream body = response.Content.ReadAsStream();
            next = ReadList(body, keys);
            if (keys.Count > MostObjects || (next is not null && keys.Count == before))
            {
                Throw.BadInput($"{NameOf(prefix)} has more than {MostObjects:N0} objects, or its list does not end", remedy: "name a folder inside of it");
            }
        }
        while (next is not null);

        keys.Sort(StringComparer.Ordinal);
        return keys;
    }

    /// <summary>Where an object is read.</summary>
    protected abstract Uri AddressOf(string key);

    /// <summary>Where the list is read; <paramref name="next"/> is what the page before ended in.</summary>
    protected abstract Uri ListAddress(string prefix, string? next);

    /// <summary>Adds the keys of a page; returns what the next page begins with.</summary>
    protected abstract string? ReadList(Stream body, List<string> keys);

    /// <summary>Percent-encodes all but unreserved characters, and slashes if they are to stay.</summary>
    protected static string Escape(string text, bool keepSlashes)
    {
        StringBuilder escaped = new();
        foreach (byte one in Encoding.UTF8.GetBytes(text))
        {
            bool plain = char.IsAsciiLetterOrDigit((char)one) || one is (byte)'-' or (byte)'.' or (byte)'_' or (byte)'~' || (keepSlashes && one == (byte)'/');
            _ = plain ? escaped.Append((char)one) : escaped.Append('%').Append(one.ToString("X2", System.Globalization.CultureInfo.InvariantCulture));
        }

        return escaped.ToString();
    }
}

/// <summary>Objects below a prefix.</summary>
internal sealed class StoreFolder(ObjectStore store, string prefix, IReadOnlyList<string> keys) : DataFolder
{
    /// <inheritdoc/>
    public override string Name => store.NameOf(prefix);

    /// <inheritdoc/>
    public override IReadOnlyList<string> Files { get; } = [.. keys.Select(key => key[prefix.Length..]).Where(file => file.Length > 0 && !file.EndsWith('/'))];

    /// <inheritdoc/>
    public override DataObject Open(string file) =>
        store.Find(prefix + file) ?? throw new NibbleException(ErrorKind.NotFound, $"{store.NameOf(prefix + file)} does not exist", "it was listed, and is gone", "run again");
}
