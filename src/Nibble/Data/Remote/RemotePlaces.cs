using Nibble.Data.Sources;
using Nibble.IO;

namespace Nibble.Data.Remote;

/// <summary>Opens addresses.</summary>
internal static class RemotePlaces
{
    /// <summary>Opens what an address names.</summary>
    public static DataPlace Open(string address) => throw new NibbleException(ErrorKind.Usage, address);
}
