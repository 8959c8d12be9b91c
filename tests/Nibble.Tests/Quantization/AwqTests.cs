using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Awq;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

public class AwqTests
{
    private const int Rows = 24, Columns = 64;

    [Theory]
    [InlineData(1, 8)]
    [InlineData(3, 2)]
    public void A_channel_is_read_by_every_query_head_of_its_group(int repeats, int dim)
    {
        ActivationFold fold = new(["o"], "v", IsNorm: false) { Channels = 16, HeadDim = dim, Repeats = repeats };
        int[] channels = [.. Enumerable.Range(0, 16 * repeats).Select(fold.ChannelOf)];
        Assert.Equal(Enumerable.Range(0, 16), channels.Distinct().Order());
        Assert.All(channels.Index(), item => Assert.Equal((item.Index / dim / repeats * dim) + (item.Index % dim), item.Item));
    }

    [Theory]
    [InlineData(4, 32)]
    [InlineData(3, 24)]
    [InlineData(3, -1)]
    public void Scaling_and_clipping_lower_the_error_of_the_outputs(int bits, int group)
    {
        GramStatistics gram = Gram();
        using Tensor weight = Methods.Input(Rows, Columns, 5);
        QuantizationSettings settings = Registry.Method("awq").Complete(new() { Method = "awq", Bits = bits, GroupSize = group, ScaleDType = DType.F32 });
        WeightFacts facts = Registry.Method("awq").FactsOf(settings, Rows, Columns);
        ActivationFold fold = new(["layer"], "norm", IsNorm: true) { Channels = Columns };
        using HostScaleErrors errors = new([new ScaledLayer(weight, facts)], gram);
        ScaleChoice choice = new ScaleSearch(errors, fold, gram).Run();
        using QuantizedWeight plain = Registry.Method("rtn").Quantize("w", weight, settings with { Method = "rtn" });
        Assert.Equal(OutputError(weight, plain, gram), choice.Before, choice.Before * 1e-3);
        Assert.True(choice.After < 0.9 * choice.Before, $"{choice.After:G4} of {choice.Before:G4}");

        // Clipping is measured on the same inputs, so it can only help.
        using QuantizedWeight clipped = Registry.Method("awq").Quantize("w", weight, settings, gram);
        Assert.InRange(OutputError(weight, clipped, gram), 0, choice.Before * 1.2);
    }

    [Fact]
    public void Grid_errors_are_those_of_the_codes()
    {
        using Tensor weight = Methods.Input(1, 37, 6);
        ReadOnlySpan<float> values = weight.HostSpan<float>();
        CodeGrid grid = RtnMethod.GridOf(values, 3, symmetric: false, DType.F16);
        float[] errors = new float[37];
        byte[] codes = new byte[37];
        GridError.Of(values, grid, errors);
        VectorSearch.Divide(values, grid, codes);
        for (int i = 0; i < codes.Length; i++)
        {
            Assert.Equal(values[i] - ((codes[i] - grid.Zero) * grid.Scale), errors[i]);
        }
    }

    [Fact]
    public void A_fold_needs_all_readers_of_its_input_and_a_quantized_source()
    {
        ModelConfig config = ModelConfig.Open(Path.Combine(TestData.Goldens, "models", "llama"));
        PlanRequest request = new(new QuantizationSettings { Method = "awq", GroupSize = 16 })
        {
            Overrides = [PlanOverride.Parse("*.0.self_attn.k_proj=rtn:group_size=16"), PlanOverride.Parse("*.1.mlp.up_proj=none")],
        };
        QuantPlan plan = QuantPlan.Create(config, request);
        string[] closed = [.. plan.Folds.Where(fold => fold.Obstacle is not null).Select(fold => fold.Fold.Source)];
        Assert.Equal(["model.layers.0.input_layernorm", "model.layers.1.post_attention_layernorm", "model.layers.1.mlp.up_proj"], closed);
        Assert.DoesNotContain("model.layers.0.input_layernorm.weight", plan.FoldedVectors);
        Assert.Contains("model.layers.1.input_layernorm.weight", plan.FoldedVectors);
    }

    [Fact]
    public void Gelu_lets_no_factor_through()
    {
        QuantPlan plan = QuantPlan.Create(ModelConfig.Open(Path.Combine(TestData.Goldens, "models", "gpt2")), new PlanRequest(new QuantizationSettings { Method = "awq", GroupSize = 16 }));
        Assert.All(plan.Folds, fold => Assert.Equal(fold.Fold.Source.EndsWith("mlp.c_fc", StringComparison.Ordinal), fold.Obstacle is not null));
        Assert.Contains(plan.FoldedVectors, name => name.EndsWith("attn.c_attn.bias", StringComparison.Ordinal));
    }

    [Fact]
    public void Without_calibration_it_refuses()
    {
        using Tensor weight = Methods.Input(Rows, Columns, 7);
        IQuantizationMethod method = Registry.Method("awq");
        NibbleException error = Assert.Throws<NibbleException>(() => method.Quantize("layer", weight, method.Complete(new() { Method = "awq" })));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("--data", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Outputs_are_as_near_as_the_authors_code_brings_them()
    {
        foreach (JsonElement item in GoldenWeights.Read("awq/outputs.json").GetProperty("cases").EnumerateArray())
        {
            using Tensor weight = GoldenWeights.Input(item);
            GramStatistics gram = GramOf(item);
            IQuantizationMethod method = Registry.Method("awq");
            QuantizationSettings settings = method.Complete(
                new() { Method = "awq", Bits = item.GetProperty("bits").GetInt32(), GroupSize = item.GetProperty("group").GetInt32(), ScaleDType = DType.F32 });
            ActivationFold fold = new(["layer"], "norm", IsNorm: true) { Channels = gram.Columns };
            using HostScaleErrors errors = new([new ScaledLayer(weight, method.FactsOf(settings, weight.Shape[0], weight.Shape[1]))], gram);
            ScaleChoice choice = new ScaleSearch(errors, fold, gram).Run();

            // What counts is the error of what is stored: the search looks at clipped weights too, so before clipping it may be behind.
            using Tensor scaled = Scaled(weight, choice.Factors);
            GramStatistics divided = Divided(gram, choice.Factors);
            using QuantizedWeight clipped = method.Quantize("w", scaled, settings, divided);
            Assert.InRange(OutputError(scaled, clipped, divided), 0, 1.01 * Best(item));
        }
    }

    [Fact]
    public void Layers_that_share_statistics_copy_them_from_the_device_once()
    {
        using CountingGram device = new();
        GramStatistics shared = new(8, device), first = shared with { Layer = "first" }, second = shared with { Layer = "second" };
        Assert.Equal((0, 0), (device.Copies, device.MagnitudeCopies));
        Assert.Same(first.Gram, second.Gram);
        Assert.Same(first.Magnitudes, second.Magnitudes);
        Assert.Same(first.Gram, shared.Gram);
        Assert.Equal((1, 1), (device.Copies, device.MagnitudeCopies));
        Assert.Equal([3.0, 4.0], (first with { Magnitudes = [3, 4] }).Magnitudes);
    }

    private static double Best(JsonElement item) => Math.Min(item.GetProperty("plain_clipped").GetDouble(), item.GetProperty("duo_clipped").GetDouble());

    private static GramStatistics GramOf(JsonElement item)
    {
        int columns = (int)GoldenWeights.ShapeOf(item, "shape")[1], tokens = item.GetProperty("tokens").GetInt32();
        float[] x = GoldenWeights.Values(tokens * columns, item.GetProperty("seed").GetUInt64() + 100);
        double[] gram = new double[columns * columns], sizes = new double[columns];
        for (int t = 0; t < tokens; t++)
        {
            double[] row = [.. Enumerable.Range(0, columns).Select(i => x[(t * columns) + i] * (i % 16 == 3 ? 16.0 : i % 8 == 5 ? 4.0 : 1.0))];
            Add(row, gram, sizes, tokens);
        }

        return new GramStatistics(tokens, columns, gram) { Magnitudes = sizes };
    }

    private static void Add(double[] row, double[] gram, double[] sizes, int tokens)
    {
        for (int i = 0; i < row.Length; i++)
        {
            sizes[i] += Math.Abs(row[i]) / tokens;
            for (int j = 0; j < row.Length; j++)
            {
                gram[(i * row.Length) + j] += row[i] * row[j];
            }
        }
    }

    private static Tensor Scaled(Tensor weight, float[] factors) =>
        Tensor.From<float>(weight.Shape, DType.F32, [.. weight.HostSpan<float>().ToArray().Select((w, i) => w * factors[i % factors.Length])]);

    private static GramStatistics Divided(GramStatistics gram, float[] factors) =>
        new(gram.Tokens, gram.Columns, [.. gram.Gram.Select((value, i) => value / factors[i / gram.Columns] / factors[i % gram.Columns])]);

    /// <summary>Inputs of which a few are much larger than the others, as activations are.</summary>
    private static GramStatistics Gram()
    {
        Random random = new(3);
        const int tokens = 300;
        double[] gram = new double[Columns * Columns], sizes = new double[Columns];
        for (int t = 0; t < tokens; t++)
        {
            Add([.. Enumerable.Range(0, Columns).Select(i => (random.NextDouble() - 0.5) * (i % 16 == 3 ? 20 : 1))], gram, sizes, tokens);
        }

        return new GramStatistics(tokens, Columns, gram) { Magnitudes = sizes };
    }

    /// <summary>Σ over outputs of the mean squared error.</summary>
    private static double OutputError(Tensor weight, QuantizedWeight quantized, GramStatistics gram)
    {
        using Tensor values = quantized.Dequantize();
        double sum = 0;
        for (int row = 0; row < (int)weight.Shape[0]; row++)
        {
            double[] d = [.. weight.Slice(row, 1).HostSpan<float>().ToArray().Zip(values.Slice(row, 1).HostSpan<float>().ToArray(), (a, b) => (double)a - b)];
            for (int i = 0; i < gram.Columns; i++)
            {
                for (int j = 0; j < gram.Columns; j++)
                {
                    sum += d[i] * gram.Gram[(i * gram.Columns) + j] * d[j] / gram.Tokens;
                }
            }
        }

        return sum;
    }

    private sealed class CountingGram : IDeviceGram
    {
        public int Columns => 2;

        public int Copies { get; private set; }

        public int MagnitudeCopies { get; private set; }

        public double[] Diagonal() => [1, 2];

        public double[] Magnitudes()
        {
            MagnitudeCopies++;
            return [0.5, 1];
        }

        public double[] ToHost()
        {
            Copies++;
            return [1, 0.5, 0.5, 2];
        }

        public void Dispose()
        {
        }
    }
}
