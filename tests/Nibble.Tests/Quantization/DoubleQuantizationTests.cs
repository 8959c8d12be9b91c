using Nibble.Backends;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

/// <summary>Double quantization is there to save memory: it must, beside the smallest form that plain scales have.</summary>
public class DoubleQuantizationTests
{
    [Theory]
    [InlineData(64, 64)]
    [InlineData(256, 256)]
    [InlineData(1000, 256)]
    [InlineData(256, 1024)]
    [InlineData(64, 32)]
    public void Packed_weights_take_less_than_with_plain_scales(int rows, int columns)
    {
        // Weights that were trained in BF16 have absmax values that BF16 holds: plain scales take two bytes.
        using Tensor dense = Tensor.OnHost(new Shape(rows, columns), DType.F32);
        Span<float> values = dense.HostSpan<float>();
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(MathF.Sin(i * 1.7f) / (1 + (i % 97))) & 0xffff0000);
        }

        (long plain, string plainDigest, string plainBack) = Pack(dense, doubleQuant: false);
        (long nested, string digest, string back) = Pack(dense, doubleQuant: true);
        Assert.True(nested < plain, $"{nested:N0} bytes with double quantization, {plain:N0} without");
        Assert.Equal((plainDigest, digest), (plainBack, back));
    }

    [Fact]
    public void So_does_the_model_of_the_demo()
    {
        string model = AssetFolder.Find(Path.Combine("assets", "nibble-gpt2-10m"));
        long[] bytes = [.. new[] { false, true }.Select(nested =>
        {
            using LoadedModel loaded = LoadedModel.Load(model, new LoadOptions { Device = "cpu", Quantization = new PlanRequest(new QuantizationSettings { Method = "nf4", DoubleQuant = nested }) });
            return loaded.Model.WeightBytes;
        })];
        Assert.True(bytes[1] < bytes[0], $"{bytes[1]:N0} bytes with double quantization, {bytes[0]:N0} without");
    }

    private static (long Bytes, string Digest, string Back) Pack(Tensor dense, bool doubleQuant)
    {
        IQuantizationMethod method = Registry.Method("nf4");
        using QuantizedWeight weight = method.Quantize("w", dense, method.Complete(new() { Method = "nf4", DoubleQuant = doubleQuant }));
        using IBackend backend = BackendKind.Create("cpu");
        using IPackedWeight packed = backend.Prepare(weight, ActivationType.F32);
        using QuantizedWeight back = packed.Unpack()!;
        return (packed.ByteLength, WeightDigest.Of(weight), WeightDigest.Of(back));
    }
}
