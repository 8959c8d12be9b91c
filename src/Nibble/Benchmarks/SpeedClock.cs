using System.Diagnostics;

namespace Nibble.Benchmarks;

/// <summary>
/// What speeds are measured with: the wall, or the processor time that this process was given, over its threads. The latter leaves out what other
/// programs take on a busy machine; waiting threads count too, so it suits work that keeps all threads busy.
/// </summary>
internal static class SpeedClock
{
    /// <summary>Threads over which processor time is shared out; 0: the wall.</summary>
    public static int ProcessorTimeThreads { get; set; }

    /// <summary>Seconds since some moment.</summary>
    public static double Now => ProcessorTimeThreads == 0
        ? Stopwatch.GetTimestamp() / (double)Stopwatch.Frequency
        : Environment.CpuUsage.TotalTime.TotalSeconds / ProcessorTimeThreads;
}
