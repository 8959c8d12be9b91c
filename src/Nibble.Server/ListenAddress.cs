using System.Net;
using Nibble.IO;

namespace Nibble.Server;

/// <summary>Where a server listens.</summary>
/// <param name="Host">An address or <c>localhost</c>; 127.0.0.1 is reached from this machine alone.</param>
/// <param name="Port">Port; 0 takes a free one.</param>
public sealed record ListenAddress(string Host = "127.0.0.1", int Port = 8080)
{
    /// <summary>The address to bind to.</summary>
    /// <exception cref="NibbleException">Host is not an address, or port is outside 0 to 65,535.</exception>
    public IPEndPoint EndPoint()
    {
        if (Port is < 0 or > 65_535)
        {
            throw new NibbleException(ErrorKind.Usage, $"port {Port}", "ports are numbers from 0 to 65535", "choose one above 1023, or 0 for a free one");
        }

        if (Host == "localhost")
        {
            return new IPEndPoint(IPAddress.Loopback, Port);
        }

        return IPAddress.TryParse(Host.Trim('[', ']'), out IPAddress? address)
            ? new IPEndPoint(address, Port)
            : throw new NibbleException(ErrorKind.Usage, $"host '{Host}'", "it is neither an address nor localhost", "use 127.0.0.1 for this machine alone, 0.0.0.0 for every network that it is in");
    }

    /// <summary>Whether only this machine can reach it.</summary>
    public bool IsLoopback => IPAddress.IsLoopback(EndPoint().Address);
}
