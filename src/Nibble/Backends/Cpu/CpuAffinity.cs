using System.Globalization;
using System.Runtime.InteropServices;
using Nibble.IO;

namespace Nibble.Backends.Cpu;

/// <summary>
/// Which processors the threads of the CPU backend run on: NIBBLE_AFFINITY, as <c>0,2,4-7</c>. Worker i of a pool is bound to the i-th of
/// them; the thread that makes the pool, which does its share of the work, may use all of them but no other.
/// </summary>
internal static unsafe partial class CpuAffinity
{
    public const string EnvironmentVariable = "NIBBLE_AFFINITY";

    // What the system calls take: 1,024 processors on Linux, the 64 of one group on Windows.
    private const int MostOnLinux = 1024;
    private const int MostOnWindows = 64;

    private static int Most => OperatingSystem.IsWindows() ? MostOnWindows : MostOnLinux;

    /// <summary>The processors that the variable names, in its order; null if it is not set.</summary>
    public static int[]? Chosen()
    {
        string? text = Environment.GetEnvironmentVariable(EnvironmentVariable);
        return string.IsNullOrEmpty(text) ? null : Parse(text);
    }

    /// <summary>Reads a list of processors and ranges of them.</summary>
    public static int[] Parse(string text)
    {
        List<int> processors = [];
        foreach (string part in text.Split(','))
        {
            string[] ends = part.Split('-');
            if (ends.Length > 2 || !TryNumber(ends[0], out int first) || !TryNumber(ends[^1], out int last) || last < first)
            {
                Throw.Usage($"\"{text}\" names no processors", $"\"{part}\" is neither a number below {Most} nor a range of them", $"write {EnvironmentVariable} or --affinity as 0,1 or 0-3");
                return [];
            }

            processors.AddRange(Enumerable.Range(first, last - first + 1));
        }

        if (processors.Distinct().Count() != processors.Count)
        {
            Throw.Usage($"\"{text}\" names a processor twice", "two threads on one processor take turns", $"write each processor once in {EnvironmentVariable} or --affinity");
        }

        return [.. processors];
    }

    /// <summary>Binds the calling thread to some processors; false if the system refuses, as it does where none of them may be used.</summary>
    public static bool Bind(ReadOnlySpan<int> processors)
    {
        if (OperatingSystem.IsLinux())
        {
            ulong* mask = stackalloc ulong[MostOnLinux / 64];
            new Span<ulong>(mask, MostOnLinux / 64).Clear();
            foreach (int processor in processors)
            {
                mask[processor / 64] |= 1ul << (processor % 64);
            }

            return SetAffinity(0, MostOnLinux / 8, mask) == 0;
        }

        nuint bits = 0;
        foreach (int processor in processors)
        {
            bits |= (nuint)1 << processor;
        }

        return OperatingSystem.IsWindows() && SetThreadAffinityMask(GetCurrentThread(), bits) != 0;
    }

    /// <summary>The processors that the calling thread may use, ascending; empty where the system does not tell.</summary>
    public static int[] Allowed()
    {
        if (!OperatingSystem.IsLinux())
        {
            return [];
        }

        ulong* mask = stackalloc ulong[MostOnLinux / 64];
        new Span<ulong>(mask, MostOnLinux / 64).Clear();
        _ = GetAffinity(0, MostOnLinux / 8, mask);
        return [.. Bits(new ReadOnlySpan<ulong>(mask, MostOnLinux / 64))];
    }

    /// <summary>Binds the calling thread, and says what is wrong if that can't be.</summary>
    public static void Require(int[] processors)
    {
        int[] allowed = Allowed(), missing = allowed.Length == 0 ? [] : [.. processors.Except(allowed)];
        if (missing.Length > 0 || !Bind(processors))
        {
            Throw.Usage(
                $"processors {string.Join(", ", missing.Length > 0 ? missing : processors)} can't be used",
                allowed.Length == 0 ? "the system refused to bind a thread to them" : $"this process may run on {string.Join(", ", allowed)}",
                $"choose others in {EnvironmentVariable} or --affinity, or leave it out");
        }
    }

    private static List<int> Bits(ReadOnlySpan<ulong> mask)
    {
        List<int> result = [];
        for (int i = 0; i < 64 * mask.Length; i++)
        {
            if ((mask[i / 64] >> (i % 64) & 1) != 0)
            {
                result.Add(i);
            }
        }

        return result;
    }

    private static bool TryNumber(string text, out int number) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number < Most;

    [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
    private static partial int SetAffinity(int thread, nuint bytes, ulong* mask);

    [LibraryImport("libc", EntryPoint = "sched_getaffinity")]
    private static partial int GetAffinity(int thread, nuint bytes, ulong* mask);

    [LibraryImport("kernel32", EntryPoint = "GetCurrentThread")]
    private static partial nint GetCurrentThread();

    [LibraryImport("kernel32", EntryPoint = "SetThreadAffinityMask")]
    private static partial nuint SetThreadAffinityMask(nint thread, nuint mask);
}
