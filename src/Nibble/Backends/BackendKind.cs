using System.Globalization;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Backends;

/// <summary>What <c>--device</c> and <c>--threads</c> ask for.</summary>
/// <param name="Number">Number of the device among those of its kind.</param>
/// <param name="Threads">Threads of the CPU backend; null for its default.</param>
/// <param name="Compute">Numbers in which large products multiply: F32, or BF16.</param>
public sealed record DeviceRequest(int Number, int? Threads, DType Compute = DType.F32);

/// <summary>A kind of device: its name on the command line, and how it is opened. Listed in <see cref="Registry.Backends"/>.</summary>
/// <param name="Name"><c>cpu</c>, <c>cuda</c>.</param>
/// <param name="Open">Opens a device of this kind, or throws an error that says what is missing.</param>
public sealed record BackendKind(string Name, Func<DeviceRequest, IBackend> Open)
{
    /// <summary>Opens the device of a name: <c>auto</c>, <c>cpu</c>, <c>cuda</c>, <c>cuda:1</c> …</summary>
    /// <exception cref="NibbleException">There is no such device here; the message says why and what to do.</exception>
    public static IBackend Create(string device, int? threads = null, DType compute = DType.F32)
    {
        string[] parts = device.Split(':');
        string name = parts[0] == "auto" ? Registry.Backends[0].Name : parts[0];
        BackendKind? kind = Registry.Backends.FirstOrDefault(item => item.Name == name);
        bool numbered = parts.Length == 2 && name != "cpu" && parts[0] != "auto";
        int number = 0;
        if (kind is null || (parts.Length > 1 && !(numbered && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out number))))
        {
            Throw.Usage($"--device {device} is not available", $"there are auto, {string.Join(", ", Registry.Backends.Select(item => item.Name))} and cuda:NUMBER", "nibble devices lists what is here");
        }

        return kind.Open(new DeviceRequest(number, threads, compute));
    }
}
