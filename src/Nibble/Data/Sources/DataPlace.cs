using Nibble.IO;

namespace Nibble.Data.Sources;

/// <summary>What <c>--data</c> names: one file, or a folder of files.</summary>
/// <param name="Name">As the user wrote it.</param>
/// <param name="File">The file, if it is one.</param>
/// <param name="Folder">The folder, if it is one.</param>
internal sealed record DataPlace(string Name, DataObject? File, DataFolder? Folder)
{
    /// <summary>True for what is reached through the network.</summary>
    public static bool IsRemote(string data) => data.Contains("://", StringComparison.Ordinal);

    /// <summary>Opens a path or an address.</summary>
    /// <exception cref="NibbleException">There is nothing.</exception>
    public static DataPlace Open(string data)
    {
        if (IsRemote(data))
        {
            return Remote.RemotePlaces.Open(data);
        }

        return System.IO.File.Exists(data) ? new DataPlace(data, new LocalObject(data), null)
            : Directory.Exists(data) ? new DataPlace(data, null, new LocalFolder(data))
            : throw new NibbleException(
                ErrorKind.NotFound,
                $"{data} does not exist",
                $"it is neither a file, nor a folder, nor an address (http://, https://, s3://, gs://), nor one of the names {string.Join(", ", NamedData.Names)}",
                "check --data");
    }
}
