using System.Runtime.InteropServices;
using System.Text.Json;
using Nibble.Backends.Cpu;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Quantization.Methods;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>The layer's error against that of the authors' code on the same weights and inputs (Goldens/gptq).</summary>
public class GptqGoldenTests
{
    private static readonly string Folder = Path.Combine(TestData.Goldens, "gptq");
    private static readonly JsonElement Golden = JsonDocument.Parse(File.ReadAllText(Path.Combine(Folder, "cases.json"))).RootElement;

    public static TheoryData<int> Cases => [.. Enumerable.Range(0, Golden.GetProperty("cases").GetArrayLength())];

    [Theory]
    [MemberData(nameof(Cases))]
    public void TheErrorIsThatOfTheAuthorsOrLess(int index)
    {
        JsonElement golden = Golden.GetProperty("cases")[index];
        using Tensor weight = Load("weights.f16", "rows"), inputs = Load("inputs.f16", "tokens");
        GptqMethod method = new();
        QuantizationSettings settings = method.Complete(new()
        {
            Method = "gptq",
            Bits = golden.GetProperty("bits").GetInt32(),
            GroupSize = golden.GetProperty("group_size").GetInt32(),
            Symmetric = golden.GetProperty("symmetric").GetBoolean(),
            ActOrder = golden.GetProperty("act_order").GetBoolean(),
            StaticGroups = golden.GetProperty("static_groups").GetBoolean(),
            Mse = golden.GetProperty("mse").GetBoolean(),
            ScaleDType = DType.F32,
        });
        using QuantizedWeight quantized = method.Quantize("golden", weight, settings, Gram(inputs));
        Assert.Equal(method.FactsOf(settings, weight.Shape[0], weight.Shape[1]), quantized.Facts);
        double error = Error(weight, quantized, inputs), authors = golden.GetProperty("error").GetDouble();
        Assert.True(error <= 1.01 * authors, $"{settings}: error {error:G5}, the authors' {authors:G5} ({error / authors:F4})");
    }

    private static GramStatistics Gram(Tensor inputs)
    {
        using CpuBackend backend = new();
        GramAccumulator accumulator = new((int)inputs.Shape[1], backend);
        accumulator.Add(inputs);
        return accumulator.Finish();
    }

    private static double Error(Tensor weight, QuantizedWeight quantized, Tensor inputs)
    {
        using CpuBackend backend = new();
        using Tensor values = quantized.Dequantize();
        double error = 0, norm = 0;
        for (int row = 0; row < weight.Shape[0]; row++)
        {
            float[] w = weight.Slice(row, 1).HostSpan<float>().ToArray(), q = values.Slice(row, 1).HostSpan<float>().ToArray();
            for (int t = 0; t < inputs.Shape[0]; t++)
            {
                ReadOnlySpan<float> x = inputs.Slice(t, 1).HostSpan<float>();
                (double difference, double output) = (0, 0);
                for (int i = 0; i < x.Length; i++)
                {
                    difference += ((double)w[i] - q[i]) * x[i];
                    output += (double)w[i] * x[i];
                }

                error += difference * difference;
                norm += output * output;
            }
        }

        return error / norm;
    }

    private static Tensor Load(string name, string rows)
    {
        ReadOnlySpan<Half> halves = MemoryMarshal.Cast<byte, Half>(File.ReadAllBytes(Path.Combine(Folder, name)));
        float[] values = new float[halves.Length];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)halves[i];
        }

        return Tensor.From<float>(new Shape(Golden.GetProperty(rows).GetInt32(), Golden.GetProperty("columns").GetInt32()), DType.F32, values);
    }
}
