using System.Diagnostics;
using System.Globalization;

namespace Nibble.Runs;

/// <summary>
/// Which process works on a run, so that one that was killed is told from one that works. A number alone does not say it, as numbers
/// are given again: the moment of the start belongs to it, and where the number counts (machine and boot, and the namespace of a container).
/// </summary>
internal static class RunProcess
{
    // A run of another machine or container is judged by its signs of life; they come every few seconds.
    private static readonly TimeSpan Silence = TimeSpan.FromMinutes(2);

    private static readonly string Place = OperatingSystem.IsLinux()
        ? $"{FirstLine("/proc/sys/kernel/random/boot_id")} {LinkTarget("/proc/self/ns/pid")}"
        : Environment.MachineName;

    /// <summary>This process, as the store keeps it.</summary>
    public static string Current { get; } = $"{Place} {Environment.ProcessId} {StartOf(Environment.ProcessId)}";

    /// <summary>Whether the process of a run still works.</summary>
    /// <param name="process">What <see cref="Current"/> was there; null in files of older versions.</param>
    /// <param name="beat">The last sign of life, UTC.</param>
    public static bool IsAlive(string? process, string? beat)
    {
        string[] parts = (process ?? string.Empty).Split(' ');
        if (parts.Length > 2 && string.Join(' ', parts[..^2]) == Place && int.TryParse(parts[^2], out int id))
        {
            return StartOf(id) == parts[^1];
        }

        return DateTime.TryParse(beat, CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal | DateTimeStyles.AssumeUniversal, out DateTime last) && DateTime.UtcNow - last < Silence;
    }

    /// <summary>When a process started, in the system's own unit; null if there is none of this number.</summary>
    private static string? StartOf(int id)
    {
        if (OperatingSystem.IsLinux())
        {
            // "id (name) state …": a name may hold anything, also ')'. One that ended and waits for its parent (Z) is gone.
            string stat = FirstLine($"/proc/{id.ToString(CultureInfo.InvariantCulture)}/stat");
            string[] fields = stat[(stat.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            return fields.Length > 19 && fields[0] is not ("Z" or "X") ? fields[19] : null;
        }

        try
        {
            using Process process = Process.GetProcessById(id);
            return process.StartTime.ToUniversalTime().Ticks.ToString(CultureInfo.InvariantCulture);
        }
        catch (Exception error) when (error is ArgumentException or InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }

    private static string FirstLine(string path)
    {
        try
        {
            return File.ReadLines(path).FirstOrDefault() ?? string.Empty;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return string.Empty;
        }
    }

    private static string LinkTarget(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget ?? string.Empty;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return string.Empty;
        }
    }
}
