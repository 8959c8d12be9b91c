using System.Diagnostics;
using System.Globalization;
using Nibble.Evaluation;
using Nibble.IO;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Bench.Benches;

/// <summary>Time to the first step and peak memory of a streamed training, on JSON lines made on the fly: 16 MB, then 1 GB.</summary>
internal static class StreamBench
{
    private const int Steps = 3;

    public static void Run(BenchOptions options, BenchReport report)
    {
        string folder = Directory.CreateTempSubdirectory("nibble-stream-").FullName;
        try
        {
            foreach (long megabytes in new long[] { 16, 1024 })
            {
                string file = Path.Combine(folder, "rows.jsonl");
                Write(file, megabytes << 20);
                Measure(file, folder, $"{megabytes:N0} MB", options, report);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Measure(string file, string folder, string size, BenchOptions options, BenchReport report)
    {
        bool fresh = PeakMemory.TryForgetPeak();
        long start = Stopwatch.GetTimestamp();
        TimeSpan first = TimeSpan.Zero;
        FineTuneReport run = FineTune.Run(
            new FineTuneOptions
            {
                Model = AssetFolder.Find("assets/nibble-llama-4m"),
                Data = file,
                Streaming = true,
                Threads = options.Threads,
                Trainer = new TrainerSettings { BatchSize = 4, MaxSeqLength = 128, MaxSteps = Steps },
                Output = Path.Combine(folder, "out"),
                Force = true,
            },
            step => first = step.Step == 1 ? Stopwatch.GetElapsedTime(start) : first);
        report.Add($"{size}: model loaded, first step done", [first.TotalSeconds], "s");
        if (fresh)
        {
            report.Add($"{size}: peak memory", [run.PeakMemoryBytes / 1e6], "MB");
        }
    }

    private static void Write(string path, long bytes)
    {
        string[] words = File.ReadAllText(AssetFolder.Find("assets/text/tune-train.txt")).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        ulong key = CounterRandom.Key("stream");
        using StreamWriter writer = new(path);
        for (ulong row = 0; writer.BaseStream.Position < bytes; row++)
        {
            IEnumerable<string> text = Enumerable.Range(0, 40).Select(i => words[CounterRandom.Bits(key, (row * 40) + (ulong)i) % (ulong)words.Length].Replace("\\", string.Empty, StringComparison.Ordinal).Replace("\"", string.Empty, StringComparison.Ordinal));
            writer.Write(string.Create(CultureInfo.InvariantCulture, $"{{\"text\":\"{row} {string.Join(' ', text)}\"}}\n"));
        }
    }
}
