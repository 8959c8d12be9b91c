using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Nibble.Formats;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>Speed of the data-free methods, and memory of quantizing a folder that is much larger than it.</summary>
internal static class QuantizeBench
{
    /// <summary>First argument of the process that quantizes and tells its peak memory.</summary>
    public const string Child = "quantize-child";

    /// <summary>Sizes of the model that is written: LLaMA of 1.1 B shapes.</summary>
    public const int Columns = 5632, Hidden = 2048, Vocabulary = 8192;

    private const int Rows = 2048, Layers = 19;

    private static readonly QuantizationSettings[] Methods =
    [
        new() { Method = "int8" }, new() { Method = "nf4" }, new() { Method = "nf4", DoubleQuant = true }, new() { Method = "fp4" },
        new() { Method = "rtn" }, new() { Method = "rtn", Bits = 4, Symmetric = true }, new() { Method = "quanto" }, new() { Method = "ternary" },
    ];

    /// <summary>Weights per second of each method, beside the time of copying the same matrix.</summary>
    public static void Run(BenchOptions options, BenchReport report)
    {
        using Tensor matrix = Random(Rows, Columns, DType.F32);
        using Tensor copy = Tensor.OnHost(matrix.Shape, DType.F32);
        foreach (QuantizationSettings settings in Methods)
        {
            IQuantizationMethod method = Registry.Method(settings.Method);
            QuantizationSettings complete = method.Complete(settings);
            double[][] times = Clock.Rounds(options.Rounds, () => TensorConvert.Copy(matrix, copy), () => method.Quantize("bench", matrix, complete).Dispose());
            double weights = matrix.Shape.Count / 1e6;
            report.Add($"{complete}", [.. times[1].Select(t => weights / t)], "Mw/s", [.. times[1].Zip(times[0], (t, read) => read / t)], "copying");
        }
    }

    /// <summary>Peak memory of quantizing a 2 GB folder in a process of its own; the limit is six times the largest tensor and 200 MB.</summary>
    public static void RunMemory(BenchOptions options, BenchReport report)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("nibble-bench-");
        try
        {
            string source = Path.Combine(folder.FullName, "source");
            Directory.CreateDirectory(source);
            long bytes = WriteModel(source, Layers, out long largest);
            foreach (string method in new[] { "nf4", "rtn" })
            {
                (double seconds, double peak) = InChild(Child, source, Path.Combine(folder.FullName, method), method);
                report.Add($"{method}, {bytes / 1e9:F2} GB: time", [seconds], "s");
                report.Add($"{method}: peak memory", [peak / 1e6], "MB");
                double limit = (6.0 * largest) + 200e6;
                report.Check($"{method}: {peak / 1e6:F0} MB ≤ 6 × {largest / 1e6:F0} MB + 200 MB", peak <= limit ? null : $"limit {limit / 1e6:F0} MB");
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>The child: quantizes, then prints seconds and peak resident bytes.</summary>
    public static int RunChild(string source, string output, string method)
    {
        Tell(Quantizer.Run(source, output, new PlanRequest(new QuantizationSettings { Method = method })));
        return 0;
    }

    /// <summary>Prints what the parent reads: seconds, and the peak of resident bytes.</summary>
    public static void Tell(QuantizationResult result)
    {
        string line = File.ReadLines("/proc/self/status").First(text => text.StartsWith("VmHWM", StringComparison.Ordinal));
        long kilobytes = long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
        Console.WriteLine(JsonSerializer.Serialize(new[] { result.Seconds, kilobytes * 1024.0 }));
    }

    /// <summary>Runs this program in a process of its own; what it told.</summary>
    public static (double Seconds, double Peak) InChild(params string[] arguments)
    {
        ProcessStartInfo start = new("dotnet", [typeof(QuantizeBench).Assembly.Location, .. arguments]) { RedirectStandardOutput = true };
        using Process process = Process.Start(start)!;
        double[] figures = JsonSerializer.Deserialize<double[]>(process.StandardOutput.ReadToEnd())!;
        process.WaitForExit();
        return (figures[0], figures[1]);
    }

    /// <summary>A LLaMA of random weights, written tensor by tensor.</summary>
    public static long WriteModel(string folder, int layers, out long largest)
    {
        string config = $$"""
            { "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": {{Hidden}}, "intermediate_size": {{Columns}}, "num_hidden_layers": {{layers}},
              "num_attention_heads": 16, "vocab_size": {{Vocabulary}}, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": true }
            """;
        File.WriteAllText(Path.Combine(folder, "config.json"), config);
        ModelConfig model = ModelConfig.Open(folder);
        var architecture = Registry.Architecture(model);
        List<(string Name, Shape Shape)> tensors =
        [
            .. architecture.Linears(model).Select(spec => (spec.WeightName, spec.StoredShape)),
            .. architecture.Vectors(model).Select(spec => (spec.Name, spec.Shape)),
        ];
        largest = tensors.Max(tensor => tensor.Shape.Count) * 2L;
        using HfFolderWriter writer = new(folder, tensors.Select(tensor => new SafetensorsSpec(tensor.Name, DType.BF16, tensor.Shape)));
        foreach ((string name, Shape shape) in tensors)
        {
            using Tensor values = Random((int)shape.Rows, (int)shape.Columns, DType.BF16);
            writer.Append(name, values);
        }

        writer.Commit();
        return tensors.Sum(tensor => tensor.Shape.Count * 2L);
    }

    private static Tensor Random(int rows, int columns, DType dtype)
    {
        using Tensor values = Tensor.OnHost(new Shape(rows, columns), DType.F32);
        uint state = 12345;
        foreach (ref float value in values.HostSpan<float>())
        {
            // The sum of the word's four bytes looks normal.
            state = (state * 1664525) + 1013904223;
            int sum = (int)((state & 255) + ((state >> 8) & 255) + ((state >> 16) & 255) + (state >> 24)) - 510;
            value = sum * 1e-4f;
        }

        return values.To(dtype);
    }
}
