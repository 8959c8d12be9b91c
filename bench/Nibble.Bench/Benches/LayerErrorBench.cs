using System.Runtime.InteropServices;
using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>
/// ‖(W − Ŵ)X‖² of every layer of a model that GPTQ quantizes block by block. With --output, each layer's matrix and Gram matrix are
/// written as raw F32, <c>LAYER.OUT.IN.w</c> and <c>LAYER.OUT.IN.h</c>, and our errors as lines of <c>errors.txt</c>: another program can quantize the same and compare.
/// </summary>
internal static class LayerErrorBench
{
    private static readonly string[] Settings =
        ["gptq:bits=4,group_size=128", "gptq:bits=3,group_size=64", "gptq:bits=3,group_size=64,act_order=true", "gptq:bits=4,group_size=-1,symmetric=true"];

    public static void Run(BenchOptions options, BenchReport report)
    {
        string path = options.Model ?? AssetFolder.Find(Path.Combine("assets", "nibble-gpt2-10m"));
        using LoadedModel model = LoadedModel.Load(path);
        CalibrationRequest request = new(options.Data ?? "demo") { Samples = 32, Length = Math.Min(512, model.Facts.Context) };
        using BlockCalibration calibration = new(model.Model, request.Choose(model));
        List<string> lines = [];
        Dictionary<string, List<double>> errors = Settings.ToDictionary(text => text, _ => new List<double>());
        calibration.Run((layer, gram) =>
        {
            using Tensor dense = Dense(model, layer);
            Write(options.Output, layer, dense, gram);
            IPackedWeight? packed = null;
            foreach (string text in Settings)
            {
                QuantizationSettings settings = PlanOverride.Parse("*=" + text).Settings! with { ScaleDType = DType.F32 };
                IQuantizationMethod method = Registry.Method(settings.Method);
                using QuantizedWeight weight = method.Quantize(layer, dense, method.Complete(settings), gram);
                using Tensor values = weight.Dequantize();
                (double wrong, double whole) = Errors(dense, values, gram);
                double error = wrong / whole;
                errors[text].Add(error);
                lines.Add(FormattableString.Invariant($"{layer} {text} {error:R}"));
                packed ??= model.Backend.Prepare(values);
            }

            return packed!;
        });
        foreach ((string text, List<double> list) in errors)
        {
            report.Add(text, [.. list], "‖(W − Ŵ)X‖² / ‖WX‖²");
        }

        if (options.Output is { } folder)
        {
            File.WriteAllLines(Path.Combine(folder, "errors.txt"), lines);
        }
    }

    /// <summary>A layer's dense matrix, F32; the caller disposes it.</summary>
    internal static Tensor Dense(LoadedModel model, string layer)
    {
        IPackedWeight weight = model.Model.Blocks.SelectMany(block => block.Linears).First(linear => linear.Path == layer).Weight;
        return Rows(model.Backend, weight);
    }

    private static Tensor Rows(IBackend backend, IPackedWeight weight)
    {
        Tensor ids = Tensor.From<int>(new Shape(weight.Out), DType.I32, [.. Enumerable.Range(0, (int)weight.Out)]);
        Tensor rows = Tensor.OnHost(new Shape(weight.Out, weight.In), DType.F32);
        backend.Kernels.Gather(weight, ids, rows);
        ids.Dispose();
        return rows;
    }

    /// <summary>‖(W − Ŵ)X‖² and ‖WX‖².</summary>
    internal static (double Error, double Whole) Errors(Tensor dense, Tensor values, GramStatistics gram)
    {
        (double error, double norm) = (0, 0);
        object key = new();
        Parallel.For(0, (int)dense.Shape[0], row =>
        {
            float[] w = dense.Slice(row, 1).HostSpan<float>().ToArray(), q = values.Slice(row, 1).HostSpan<float>().ToArray();
            double difference = Quadratic([.. w.Zip(q, (a, b) => (double)a - b)], gram), whole = Quadratic([.. w.Select(x => (double)x)], gram);
            lock (key)
            {
                error += difference;
                norm += whole;
            }
        });
        return (error, norm);
    }

    private static double Quadratic(double[] x, GramStatistics gram)
    {
        double sum = 0;
        for (int i = 0; i < x.Length; i++)
        {
            double line = 0;
            ReadOnlySpan<double> row = gram.Gram.AsSpan(i * x.Length, x.Length);
            for (int j = 0; j < x.Length; j++)
            {
                line += row[j] * x[j];
            }

            sum += x[i] * line;
        }

        return sum;
    }

    private static void Write(string? folder, string layer, Tensor dense, GramStatistics gram)
    {
        if (folder is null)
        {
            return;
        }

        Directory.CreateDirectory(folder);
        string name = Path.Combine(folder, $"{layer}.{dense.Shape[0]}.{dense.Shape[1]}");
        File.WriteAllBytes(name + ".w", MemoryMarshal.AsBytes(dense.HostSpan<float>()));
        File.WriteAllBytes(name + ".h", MemoryMarshal.AsBytes(Array.ConvertAll(gram.Gram, value => (float)value).AsSpan()));
    }
}
