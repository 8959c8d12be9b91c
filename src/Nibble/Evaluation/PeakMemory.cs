using System.Diagnostics;
using System.Globalization;

namespace Nibble.Evaluation;

/// <summary>
/// The process's peak resident set without mapped file pages. Linux knows a peak of everything (VmHWM) but not of anonymous pages
/// alone, so these are sampled; a peak between two samples is caught by VmHWM less the most file pages seen.
/// </summary>
public sealed class PeakMemory : IDisposable
{
    private const string Status = "/proc/self/status";
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(20);
    private readonly Timer? _timer;
    private long _anonymous;
    private long _file;

    /// <summary>Starts to sample.</summary>
    public PeakMemory()
    {
        if (File.Exists(Status))
        {
            Sample();
            _timer = new Timer(_ => Sample(), null, Interval, Interval);
        }
    }

    /// <summary>How the number was found.</summary>
    public string Source => _timer is null
        ? "peak working set, mapped file pages included"
        : "peak resident set without mapped file pages (sampled every 20 ms)";

    /// <summary>Makes the kernel forget the process's peak so far, for several measurements in one process; false if it does not let us.</summary>
    public static bool TryForgetPeak()
    {
        try
        {
            File.WriteAllText("/proc/self/clear_refs", "5");
            return true;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>The peak so far, in bytes.</summary>
    public long Bytes()
    {
        if (_timer is null)
        {
            using Process self = Process.GetCurrentProcess();
            return self.PeakWorkingSet64;
        }

        Sample();
        long everything = Field(File.ReadAllText(Status), "VmHWM:");
        return Math.Max(Interlocked.Read(ref _anonymous), everything - Interlocked.Read(ref _file));
    }

    /// <inheritdoc/>
    public void Dispose() => _timer?.Dispose();

    /// <summary>A field of /proc/self/status in bytes; 0 if the kernel does not tell it.</summary>
    internal static long Field(string status, string name)
    {
        int at = status.IndexOf("\n" + name, StringComparison.Ordinal);
        if (at < 0)
        {
            return 0;
        }

        int start = at + 1 + name.Length;
        string line = status[start..status.IndexOf('\n', start)];
        return long.Parse(line.AsSpan(0, line.IndexOf("kB", StringComparison.Ordinal)), NumberStyles.Any, CultureInfo.InvariantCulture) * 1024;
    }

    private void Sample()
    {
        string status = File.ReadAllText(Status);
        Raise(ref _anonymous, Field(status, "RssAnon:") + Field(status, "RssShmem:"));
        Raise(ref _file, Field(status, "RssFile:"));
    }

    private static void Raise(ref long peak, long value)
    {
        long seen = Interlocked.Read(ref peak);
        while (value > seen)
        {
            seen = Interlocked.CompareExchange(ref peak, value, seen);
        }
    }
}
