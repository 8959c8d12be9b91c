using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Awq;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>
/// Mean squared error of the outputs of every layer that AWQ scales, ‖(W − Ŵ)x‖² a token, with the inputs of the dense model, as AutoAWQ searches. With --output, the
/// token ids of the samples and our errors are written as <c>samples.txt</c> and <c>errors.txt</c>, and the samples of <c>nibble quantize</c> as <c>calibration-SEED.txt</c> for --rounds seeds:
/// another program can quantize the same and compare.
/// </summary>
internal static class AwqErrorBench
{
    private static readonly (int Bits, int Group)[] Settings = [(4, 128), (3, 64)];

    public static void Run(BenchOptions options, BenchReport report)
    {
        string path = options.Model ?? AssetFolder.Find(Path.Combine("assets", "nibble-gpt2-10m"));
        using LoadedModel model = LoadedModel.Load(path);
        IReadOnlyList<int[]> samples = new CalibrationRequest(options.Data ?? "demo") { Samples = 4, Length = Math.Min(512, model.Facts.Context) }.Choose(model);
        IReadOnlyList<ActivationFold> folds = Registry.Architecture(model.Config).Folds(model.Config);
        Dictionary<string, (Tensor Weight, GramStatistics Gram)> layers = [];
        using (BlockCalibration calibration = new(model.Model, samples))
        {
            calibration.Run((layer, gram) =>
            {
                Tensor dense = LayerErrorBench.Dense(model, layer);
                layers[layer] = (dense, gram);
                return model.Backend.Prepare(dense);
            });
        }

        List<string> lines = [];
        foreach ((int bits, int group) in Settings)
        {
            List<double> shares = [];
            foreach (ActivationFold fold in folds.Where(fold => fold.Obstacle is null))
            {
                foreach ((string layer, double error, double whole) in Errors(fold, layers, new() { Method = "awq", Bits = bits, GroupSize = group, ScaleDType = DType.F32 }))
                {
                    shares.Add(error / whole);
                    lines.Add(FormattableString.Invariant($"{layer} {bits} {group} {error:R}"));
                }
            }

            report.Add($"{bits} bit, group {group}", [.. shares], "‖(W − Ŵ)X‖² / ‖WX‖²");
        }

        foreach ((Tensor weight, _) in layers.Values)
        {
            weight.Dispose();
        }

        if (options.Output is { } folder)
        {
            Directory.CreateDirectory(folder);
            File.WriteAllLines(Path.Combine(folder, "samples.txt"), samples.Select(sample => string.Join(' ', sample)));
            File.WriteAllLines(Path.Combine(folder, "errors.txt"), lines);
            // What nibble quantize calibrates on with these seeds: tools/authors_peer.py gives the same to the authors' code.
            CalibrationRequest usual = new(options.Data ?? "demo");
            foreach (int seed in Enumerable.Range(usual.Seed, options.Rounds))
            {
                File.WriteAllLines(Path.Combine(folder, FormattableString.Invariant($"calibration-{seed}.txt")), (usual with { Seed = seed }).Choose(model).Select(sample => string.Join(' ', sample)));
            }
        }
    }

    private static IEnumerable<(string Layer, double Error, double Whole)> Errors(ActivationFold fold, Dictionary<string, (Tensor Weight, GramStatistics Gram)> layers, QuantizationSettings chosen)
    {
        IQuantizationMethod method = Registry.Method("awq");
        QuantizationSettings settings = method.Complete(chosen);
        GramStatistics gram = layers[fold.Layers[0]].Gram;
        ScaledLayer[] scaled = [.. fold.Layers.Select(layer => new ScaledLayer(layers[layer].Weight, method.FactsOf(settings, layers[layer].Weight.Shape[0], gram.Columns)))];
        using HostScaleErrors errors = new(scaled, gram);
        float[] factors = new ScaleSearch(errors, fold, gram).Run().Factors;
        float[] columns = [.. Enumerable.Range(0, gram.Columns).Select(column => factors[fold.ChannelOf(column)])];
        double[] divided = [.. gram.Gram.Select((value, i) => value / columns[i / gram.Columns] / columns[i % gram.Columns])];
        foreach (string layer in fold.Layers)
        {
            Tensor dense = layers[layer].Weight;
            using Tensor multiplied = Tensor.From<float>(dense.Shape, DType.F32, [.. dense.HostSpan<float>().ToArray().Select((value, i) => value * columns[i % columns.Length])]);
            using QuantizedWeight weight = method.Quantize(layer, multiplied, settings, new GramStatistics(gram.Tokens, gram.Columns, divided));
            using Tensor values = weight.Dequantize();
            Span<float> back = values.HostSpan<float>();
            for (int i = 0; i < back.Length; i++)
            {
                back[i] /= columns[i % columns.Length];
            }

            (double error, double whole) = LayerErrorBench.Errors(dense, values, gram);
            yield return (layer, error / gram.Tokens, whole / gram.Tokens);
        }
    }
}
