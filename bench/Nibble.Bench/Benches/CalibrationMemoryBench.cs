using System.Globalization;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;

namespace Nibble.Bench.Benches;

/// <summary>
/// Peak memory of GPTQ on blocks of LLaMA 1.1 B shapes (2048 wide, 5632 inside, random weights), in a process of its own: what docs/quantize.md promises is one block, the embedding, the
/// statistics of one input, one set of hidden states, and intermediates of one batch and of as many more as --calibration-bytes allow; so another number of blocks must make no difference.
/// </summary>
internal static class CalibrationMemoryBench
{
    /// <summary>First argument of the process that quantizes and tells its peak memory.</summary>
    public const string Child = "calibrate-child";

    private const int Samples = 16, Length = 512, Few = 2, Many = 6;

    // Small, so that the peak shows what has to be in memory and not what may be.
    private const long KeptBytes = 128L << 20;

    // Rows that go through a block at once, whatever --calibration-bytes says: BlockCalibration's batches.
    private const int BatchRows = 4096;

    // The runtime with its compiled code (some 100 MB by itself), the tokenizer, packed rows, and what the collector has not given back yet.
    private const double Slack = 250e6;

    public static void Run(BenchOptions options, BenchReport report)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("nibble-bench-");
        try
        {
            double[] peaks = [.. new[] { Few, Many }.Select(blocks => Measure(folder, blocks, report))];
            double growth = peaks[1] - peaks[0], block = Block();
            report.Check(
                string.Create(CultureInfo.InvariantCulture, $"{Many - Few} blocks of {block / 1e6:F0} MB more take {growth / 1e6:F0} MB"), growth <= block / 2 ? null : $"limit {block / 2e6:F0} MB");
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>The child.</summary>
    public static int RunChild(string source, string output)
    {
        PlanRequest plan = new(new QuantizationSettings { Method = "gptq", Bits = 4, GroupSize = 128 });
        CalibrationRequest calibration = new("demo") { Samples = Samples, Length = Length, MemoryBytes = KeptBytes };
        QuantizeBench.Tell(Quantizer.Run(source, output, plan, new QuantizerOptions { Calibration = calibration }));
        return 0;
    }

    private static double Measure(DirectoryInfo folder, int blocks, BenchReport report)
    {
        string source = Path.Combine(folder.FullName, $"source-{blocks}");
        Directory.CreateDirectory(source);
        long bytes = QuantizeBench.WriteModel(source, blocks, out _);
        foreach (string file in new[] { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json" })
        {
            File.Copy(AssetFolder.Find(Path.Combine("assets", "nibble-llama-4m", file)), Path.Combine(source, file));
        }

        (double seconds, double peak) = QuantizeBench.InChild(Child, source, Path.Combine(folder.FullName, $"q-{blocks}"));
        Directory.Delete(source, recursive: true);
        double widest = 8.0 * QuantizeBench.Columns * QuantizeBench.Columns, states = 4.0 * Samples * Length * QuantizeBench.Hidden, embedding = 4.0 * QuantizeBench.Vocabulary * QuantizeBench.Hidden;
        // Norm, queries, keys, values, attention and its projection, norm, result; gate, up and their product.
        double batch = 4.0 * BatchRows * ((8.0 * QuantizeBench.Hidden) + (3.0 * QuantizeBench.Columns));
        // The factorization stands beside the statistics, in F32.
        double limit = Block() + embedding + (1.5 * widest) + states + batch + KeptBytes + Slack;
        report.Add($"{blocks} blocks, {bytes / 1e9:F2} GB, {Samples} × {Length} tokens: time", [seconds], "s");
        report.Add($"{blocks} blocks: peak memory", [peak / 1e6], "MB");
        report.Check(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{peak / 1e6:F0} MB ≤ block {Block() / 1e6:F0} + embedding {embedding / 1e6:F0} + statistics and factor {1.5 * widest / 1e6:F0} + states {states / 1e6:F0} + one batch {batch / 1e6:F0} + kept {KeptBytes / 1e6:F0} + {Slack / 1e6:F0} MB"),
            peak <= limit ? null : $"limit {limit / 1e6:F0} MB");
        return peak;
    }

    /// <summary>Bytes of the matrices of a block in F32.</summary>
    private static double Block() => 4.0 * ((4.0 * QuantizeBench.Hidden * QuantizeBench.Hidden) + (3.0 * QuantizeBench.Hidden * QuantizeBench.Columns));
}
