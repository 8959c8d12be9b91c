using System.Diagnostics;
using Nibble.IO;

namespace Nibble.SystemTests;

/// <summary>A process of this same assembly that writes files until a test kills it.</summary>
internal static class Victim
{
    public static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["file", string path]:
                using (AtomicFile file = AtomicFile.Create(path))
                {
                    file.Write(new byte[1 << 20]);
                    Wait();
                }

                return 0;
            case ["folder", string path]:
                using (OutputFolder folder = OutputFolder.Create(path, force: true))
                {
                    AtomicFile.WriteAllText(folder.File("a"), "half");
                    Wait();
                }

                return 0;
            case ["replace", string path]:
                Replace(path);
                return 0;
            case ["logits", string path]:
                Console.WriteLine(LogitsWhenLoaded.Digest(path));
                return 0;
            default:
                return 2;
        }
    }

    /// <summary>Starts a victim and returns once it has said that it is in the middle of its work.</summary>
    public static Process Start(params string[] arguments)
    {
        ProcessStartInfo start = new("dotnet", [typeof(Victim).Assembly.Location, .. arguments]) { RedirectStandardOutput = true };
        Process process = Process.Start(start)!;
        Assert.Equal("ready", process.StandardOutput.ReadLine());
        return process;
    }

    /// <summary>Ends a victim without any warning, as kill -9 does.</summary>
    public static void Kill(this Process process, TimeSpan after)
    {
        Thread.Sleep(after);
        process.Kill();
        process.WaitForExit();
        process.Dispose();
    }

    private static void Wait()
    {
        Console.WriteLine("ready");
        Thread.Sleep(Timeout.Infinite);
    }

    private static void Replace(string path)
    {
        Console.WriteLine("ready");
        for (int i = 0; ; i++)
        {
            byte[] bytes = new byte[300_000];
            Array.Fill(bytes, (byte)('a' + i % 26));
            AtomicFile.WriteAllBytes(path, bytes);
        }
    }
}
