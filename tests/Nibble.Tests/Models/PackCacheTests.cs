using Nibble.Backends;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;
using Nibble.Tests.Quantization;

namespace Nibble.Tests.Models;

/// <summary>Packed weights in a file beside the model: the same bits as packing again, and never of another model.</summary>
public sealed class PackCacheTests : IDisposable
{
    private static readonly int[] Ids = [1, 5, 9, 2, 7, 3, 8];

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, DType?> Kinds => new()
    {
        { "none", null }, { "none", DType.BF16 }, { "none", DType.F16 },
        { "rtn:bits=8,group_size=32", null }, { "rtn:bits=4,group_size=32", null }, { "rtn:bits=3,group_size=32", null }, { "rtn:bits=2,group_size=32", null },
        { "rtn:bits=4,group_size=16", null }, { "nf4", null }, { "nf4:double_quant=true", null }, { "int8", null }, { "ternary", null },
        { "hqq:bits=4,axis=0", null }, { "gptq:bits=4,group_size=32,act_order=true", null },
    };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Mapped_weights_give_the_bits_of_packed_ones(string method, DType? dtype)
    {
        string model = Model(method);
        foreach (ActivationChoice activations in new[] { ActivationChoice.F32, ActivationChoice.Int8 })
        {
            LoadOptions options = Options() with { Activations = activations, Dtype = dtype };
            float[] plain = Logits(model, options with { PackCache = "off" }, out PackCacheReport? off, out string[] names);
            float[] first = Logits(model, options, out PackCacheReport? written, out _);
            float[] second = Logits(model, options, out PackCacheReport? mapped, out string[] mappedNames);
            Assert.Null(off);
            Assert.Equal(("written", "mapped"), (written!.State, mapped!.State));
            Assert.Equal((written.Path, written.Bytes, new FileInfo(written.Path!).Length), (mapped.Path, mapped.Bytes, mapped.Bytes));
            Assert.Equal(names, mappedNames);
            Assert.Equal(Array.ConvertAll(plain, BitConverter.SingleToInt32Bits), Array.ConvertAll(first, BitConverter.SingleToInt32Bits));
            Assert.Equal(Array.ConvertAll(plain, BitConverter.SingleToInt32Bits), Array.ConvertAll(second, BitConverter.SingleToInt32Bits));
        }
    }

    [Fact]
    public void A_mapped_weight_gives_its_codes_back()
    {
        foreach (string method in new[] { "rtn:bits=3,group_size=32", "nf4:double_quant=true", "ternary", "int8", "hqq:bits=4,axis=0" })
        {
            string model = Model(method);
            for (int turn = 0; turn < 2; turn++)
            {
                using LoadedModel loaded = LoadedModel.Load(model, Options());
                using LoadedModel plain = LoadedModel.Load(model, new LoadOptions { Device = "cpu" });
                loaded.FinishPackCache();
                foreach (((string path, IPackedWeight one), (string _, IPackedWeight other)) in loaded.Model.Weights.Zip(plain.Model.Weights))
                {
                    using QuantizedWeight? a = one.Unpack(), b = other.Unpack();
                    Assert.Equal(b is null, a is null);
                    Assert.True(a is null || WeightDigest.Of(a) == WeightDigest.Of(b!), $"{method} {path}");
                }
            }
        }
    }

    [Theory]
    [InlineData(0.0, "numbers are damaged")]
    [InlineData(0.5, "numbers are damaged")]
    [InlineData(-1.0, "index is damaged")]
    [InlineData(1.0, "end is missing")]
    public void A_damaged_file_is_refused_and_made_again(double place, string reason)
    {
        string model = Model("rtn:bits=4,group_size=32");
        float[] expected = Logits(model, Options(), out PackCacheReport? written, out _);
        byte[] bytes = File.ReadAllBytes(written!.Path!);
        if (place == 1)
        {
            File.WriteAllBytes(written.Path!, bytes[..^1]);
        }
        else
        {
            // The footer tells where the index is.
            long at = place < 0 ? BitConverter.ToInt64(bytes, bytes.Length - 56) + 100 : (long)(place * (bytes.Length - 64));
            bytes[at] ^= 4;
            File.WriteAllBytes(written.Path!, bytes);
        }

        Assert.Equal(expected, Logits(model, Options(), out PackCacheReport? again, out _));
        Assert.Equal("written", again!.State);
        Assert.Contains(reason, again.Reason, StringComparison.Ordinal);
        Logits(model, Options(), out PackCacheReport? mapped, out _);
        Assert.Equal("mapped", mapped!.State);
    }

    [Fact]
    public void Another_model_under_the_same_name_is_not_served_from_the_file()
    {
        string model = Model("none");
        float[] before = Logits(model, Options(), out _, out _);
        string weights = Path.Combine(model, "model.safetensors");
        byte[] bytes = File.ReadAllBytes(weights);
        DateTime time = File.GetLastWriteTimeUtc(weights);
        // The last number changes; size and time do not.
        bytes[^1] ^= 0x80;
        File.WriteAllBytes(weights, bytes);
        File.SetLastWriteTimeUtc(weights, time);
        float[] after = Logits(model, Options(), out PackCacheReport? report, out _);
        Assert.Equal("written", report!.State);
        Assert.Contains("belongs to other files", report.Reason, StringComparison.Ordinal);
        Assert.NotEqual(before, after);
    }

    [Fact]
    public void A_place_that_cannot_be_written_is_said_and_changes_nothing()
    {
        string model = Model("none");
        File.WriteAllText(_folder["file"], string.Empty);
        float[] expected = Logits(model, new LoadOptions { Device = "cpu" }, out _, out _);
        Assert.Equal(expected, Logits(model, Options() with { PackCache = Path.Combine(_folder["file"], "under") }, out PackCacheReport? report, out _));
        Assert.Equal("off", report!.State);
        Assert.False(string.IsNullOrEmpty(report.Reason));
    }

    [Fact]
    public void One_folder_serves_many_models_and_many_starts_at_once()
    {
        string[] models = [Model("none"), Model("rtn:bits=8,group_size=32")];
        LoadOptions options = Options() with { PackCache = _folder["shared"] };
        float[][] expected = [.. models.Select(model => Logits(model, new LoadOptions { Device = "cpu" }, out _, out _))];
        Parallel.For(0, 8, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i => Assert.Equal(expected[i % 2], Logits(models[i % 2], options, out _, out _)));
        Assert.Equal([".gitignore", "CACHEDIR.TAG"], Directory.EnumerateFiles(_folder["shared"]).Select(Path.GetFileName).Where(name => !name!.EndsWith(".packed", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
        Assert.Equal(2, Directory.EnumerateFiles(_folder["shared"], "*.packed").Count());
    }

    [Fact]
    public void Small_models_leave_no_file()
    {
        string model = Model("none");
        Logits(model, Options() with { LeastPackedBytes = null }, out PackCacheReport? report, out _);
        Assert.Null(report);
        Assert.False(Directory.Exists(Path.Combine(model, ".nibble-cache")));
    }

    private static LoadOptions Options() => new() { Device = "cpu", PackCache = "beside", LeastPackedBytes = 0 };

    private static float[] Logits(string model, LoadOptions options, out PackCacheReport? report, out string[] names)
    {
        using LoadedModel loaded = LoadedModel.Load(model, options);
        report = loaded.FinishPackCache();
        names = [.. loaded.Model.Weights.Select(item => $"{item.Path} {item.Weight.Name} {item.Weight.Activations} {item.Weight.ByteLength}")];
        return LogitPairs.Of(loaded.Model, Ids);
    }

    private string Model(string method)
    {
        string dense = Path.Combine(_folder.Path, "dense");
        if (!Directory.Exists(dense))
        {
            MethodTable.WriteModel(dense, "llama");
        }

        string path = Path.Combine(_folder.Path, method.Replace(':', '-').Replace(',', '-'));
        if (method == "none")
        {
            return dense;
        }

        Quantizer.Run(dense, path, new PlanRequest(PlanOverride.Parse("*=" + method).Settings!), new() { Calibration = new CalibrationRequest("demo") { Samples = 2, Length = 32 } });
        return path;
    }
}
