using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tests.Models;

public class MemoryEstimateTests
{
    private static readonly ModelSizes Gpt2 = ModelSizesTests.Sizes("\"model_type\":\"gpt2\"");

    private static ModelSizes Llama(int index) => KnownModels.Llama[index].Sizes;

    /// <summary>The trainable parameters of the two studies: GPT-2 small, LLaMA-7B, and LLaMA-2-7B with a head of 3 labels.</summary>
    [Fact]
    public void TrainableParametersAreTheStudies()
    {
        Assert.Equal(811_008, MemoryEstimate.Of(Gpt2, TuningMemory.Qlora, new() { TargetModules = ["c_attn", "c_proj"] }).TrainableParameters);
        Assert.Equal(4_194_304, MemoryEstimate.Of(Llama(0), TuningMemory.Qlora, new()).TrainableParameters);
        ModelSizes labels = ModelSizesTests.Sizes("\"model_type\":\"llama\",\"vocab_size\":32000,\"hidden_size\":4096,\"intermediate_size\":11008,\"num_hidden_layers\":32,\"num_attention_heads\":32,\"architectures\":[\"LlamaForSequenceClassification\"],\"num_labels\":3");
        MemoryEstimate lora = MemoryEstimate.Of(labels, TuningMemory.Lora, new());
        Assert.Equal(4_206_592, lora.TrainableParameters);
        Assert.Equal(6_611_562_496, lora.TotalParameters + lora.TrainableParameters);
    }

    /// <summary>QLoRA's own claim (Dettmers et al. 2023): 33B on a 24 GB device, 65B on a 48 GB one.</summary>
    [Fact]
    public void LargeModelsFitWhereTheLiteratureSaysSo()
    {
        Assert.Equal([false, false, false], Fits(0, TuningMemory.Full));
        Assert.Equal([true, true, true], Fits(0, TuningMemory.Lora));
        Assert.Equal([false, true, true], Fits(1, TuningMemory.Lora));
        Assert.Equal([true, true, true], Fits(2, TuningMemory.Qlora));
        Assert.Equal([false, true, true], Fits(3, TuningMemory.Qlora));
    }

    /// <summary>16 bytes a parameter for mixed precision AdamW (Rajbhandari et al. 2020); the same for F32 without a master copy.</summary>
    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F32)]
    public void FullFineTuningTakes16BytesAParameter(DType dtype)
    {
        MemoryEstimate full = MemoryEstimate.Of(Gpt2, TuningMemory.Full, new() { DType = dtype });
        string[] states = ["weights", "gradients", "master weights", "optimizer states"];
        Assert.Equal(16 * 124_439_808L, full.Lines.Where(line => states.Contains(line.Part)).Sum(line => line.Bytes));
    }

    [Fact]
    public void ActivationsFollowTheirArithmetic()
    {
        MemoryOptions options = new() { BatchSize = 2, SequenceLength = 100, GradientCheckpointing = false };
        MemoryLine line = MemoryEstimate.Of(Gpt2, TuningMemory.Full, options).Lines.Single(line => line.Part == "activations");
        Assert.Equal(200L * ((4 * 768 + 2304 + 2 * 3072 + 768) * 2 + 4 * 12) * 12, line.Bytes);
        Assert.Equal("200 tokens × ((4·768 + 2304 + 2·3072 + 768) × 2 + 4·12) bytes × 12 layers", line.Arithmetic);
        Assert.True(MemoryEstimate.Of(Gpt2, TuningMemory.Full, options with { GradientCheckpointing = true }).TotalBytes < MemoryEstimate.Of(Gpt2, TuningMemory.Full, options).TotalBytes);
    }

    [Fact]
    public void QuantizedWeightsCountTheirScales()
    {
        MemoryLine nested = MemoryEstimate.Of(Gpt2, TuningMemory.Qlora, new()).Lines.Single(line => line.Part.Contains("NF4", StringComparison.Ordinal));
        Assert.Equal((long)Math.Ceiling(84_934_656 * (4 + 8 / 64.0 + 32 / 256.0 / 64) / 8), nested.Bytes);
        MemoryLine plain = MemoryEstimate.Of(Gpt2, TuningMemory.Qlora, new() { DoubleQuantization = false }).Lines.Single(line => line.Part.Contains("NF4", StringComparison.Ordinal));
        Assert.Equal(84_934_656 / 2 + 84_934_656 / 64 * 4, plain.Bytes);
    }

    [Fact]
    public void ImpossibleRequestsAreRefused()
    {
        NibbleException error = Assert.Throws<NibbleException>(() => MemoryEstimate.Of(Gpt2, TuningMemory.Lora, new() { TargetModules = ["c_attn", "q_proj", "x"] }));
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("q_proj, x", error.What, StringComparison.Ordinal);
        Assert.Contains("c_attn, c_proj, c_fc", error.Why, StringComparison.Ordinal);
        Assert.Throws<NibbleException>(() => MemoryEstimate.Of(Llama(3), TuningMemory.Full, new() { BatchSize = 1 << 20, SequenceLength = 1 << 24 }));
    }

    private static bool[] Fits(int index, TuningMemory method) => [.. MemoryEstimate.Of(Llama(index), method, new()).Fits.Values];
}
