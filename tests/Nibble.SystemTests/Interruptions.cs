using System.Globalization;

namespace Nibble.SystemTests;

/// <summary>The signal of Ctrl-C, as these tests were started with it.</summary>
internal static class Interruptions
{
    /// <summary>Skips a test of Ctrl-C where no program that it starts would see one.</summary>
    public static void SkipIfIgnored()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "Ctrl-C is tried on Linux alone");
        Skip.If(AreIgnored(), "these tests were started with SIGINT ignored, as a shell starts its background jobs, and so are the programs that they start");
    }

    // Bit 1 of a mask that Linux shows. Programs inherit what is ignored.
    private static bool AreIgnored()
    {
        const string name = "SigIgn:";
        string line = File.ReadLines("/proc/self/status").First(line => line.StartsWith(name, StringComparison.Ordinal));
        return (ulong.Parse(line.AsSpan(name.Length).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture) & 2) != 0;
    }
}
