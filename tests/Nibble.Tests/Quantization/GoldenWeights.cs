using System.Runtime.InteropServices;
using System.Text.Json;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>Reads the golden files of quantization; their README says how values and bytes are written.</summary>
internal static class GoldenWeights
{
    public static JsonElement Read(string file)
    {
        using JsonDocument document = JsonDocument.Parse(TestData.Golden(file));
        return document.RootElement.Clone();
    }

    /// <summary>The input matrix of a case.</summary>
    public static Tensor Input(JsonElement item)
    {
        Shape shape = ShapeOf(item, "shape");
        float[] values = item.TryGetProperty("values", out JsonElement stored) ? Floats(stored) : Values((int)shape.Count, item.GetProperty("seed").GetUInt64());
        switch (item.TryGetProperty("special", out JsonElement special) ? special.GetString() : null)
        {
            case "zeros":
                int block = item.GetProperty("blocksize").GetInt32();
                values.AsSpan(block, block).Clear();
                break;
            case "zero":
                values.AsSpan((int)shape[1], (int)shape[1]).Clear();
                break;
        }

        return Tensor.From<float>(shape, DType.F32, values);
    }

    /// <summary>Pseudo-random numbers that look normal and are exact in F32.</summary>
    public static float[] Values(int count, ulong seed)
    {
        float[] values = new float[count];
        ulong state = seed;
        for (int i = 0; i < count; i++)
        {
            state = unchecked((state * 6364136223846793005UL) + 1442695040888963407UL);
            int sum = (int)(state & 0xFFFF) + (int)((state >> 16) & 0xFFFF) + (int)((state >> 32) & 0xFFFF) + (int)(state >> 48);
            values[i] = (sum - 131070) / 262144f;
        }

        return values;
    }

    public static Shape ShapeOf(JsonElement item, string key) => new([.. item.GetProperty(key).EnumerateArray().Select(extent => (nint)extent.GetInt32())]);

    public static byte[] Bytes(JsonElement item, string key) => Convert.FromHexString(item.GetProperty(key).GetString()!);

    public static float[] Floats(JsonElement item, string key) => Floats(item.GetProperty(key));

    private static float[] Floats(JsonElement hex) => MemoryMarshal.Cast<byte, float>(Convert.FromHexString(hex.GetString()!)).ToArray();

    /// <summary>Quantizes with a method of the registry.</summary>
    public static QuantizedWeight Quantize(Tensor weight, QuantizationSettings settings)
    {
        IQuantizationMethod method = Registry.Method(settings.Method);
        return method.Quantize("test", weight, method.Complete(settings));
    }
}
