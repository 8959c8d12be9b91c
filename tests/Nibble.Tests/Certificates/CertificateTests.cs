using System.Text.Json.Nodes;
using Nibble.Certificates;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tests.Quantization;

namespace Nibble.Tests.Certificates;

/// <summary>What exports say about themselves, and that it is found out when it is not so.</summary>
public sealed class CertificateTests
{
    private static readonly string Model = AssetFolder.Find(Path.Combine("assets", "nibble-llama-4m"));
    private static readonly string Tiny = Path.Combine(TestData.Goldens, "models", "gpt2");

    [Fact]
    public void The_difference_is_that_of_the_loaded_models()
    {
        using TempFolder folder = new();
        PlanRequest request = new(new QuantizationSettings { Method = "nf4" });
        Certificate certificate = Quantizer.Run(Tiny, folder["out"], request).Certificate;
        int[] ids = [.. certificate.Prompt];
        float[] dense = LogitPairs.Of(Tiny, ids: ids), quantized = LogitPairs.Of(folder["out"], ids: ids);
        Assert.Equal(dense.Zip(quantized, (one, other) => Math.Abs((double)one - other)).Max(), certificate.LargestLogitDifference);
        Assert.True(certificate.LargestLogitDifference > 0);
        Assert.Equal(Certificate.Read(folder["out"]).LargestLogitDifference, certificate.LargestLogitDifference);
        Assert.Equal(Tiny, Certifier.Verify(folder["out"], Tiny).Source);
    }

    [Theory]
    [InlineData("out.gguf", "q4_0")]
    [InlineData("folder", "bf16")]
    public void Conversions_carry_one_and_a_lossless_one_says_so(string name, string type)
    {
        using TempFolder folder = new();
        Certificate certificate = ModelConverter.Convert(Model, folder[name], type).Certificate;
        Assert.Equal(type == "bf16", certificate.LargestLogitDifference == 0);
        // The source ships with Nibble, so it is found by its name.
        Assert.NotNull(Certifier.Verify(folder[name]).Source);
    }

    [Fact]
    public void A_changed_export_does_not_hold()
    {
        using TempFolder folder = new();
        Quantizer.Run(Tiny, folder["out"], new PlanRequest(new QuantizationSettings { Method = "rtn" }));
        string weights = Path.Combine(folder["out"], "model.safetensors");
        byte[] bytes = File.ReadAllBytes(weights);
        bytes[^5] ^= 1;
        File.WriteAllBytes(weights, bytes);
        NibbleException error = Assert.Throws<NibbleException>(() => Certifier.Verify(folder["out"]));
        Assert.Equal(ErrorKind.Failed, error.Kind);
        Assert.Contains("does not hold", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("largest_logit_difference", 12.5)]
    [InlineData("source_sha256", "00")]
    [InlineData("output_sha256", "00")]
    public void A_changed_certificate_does_not_hold(string key, object value)
    {
        using TempFolder folder = new();
        Quantizer.Run(Tiny, folder["out"], new PlanRequest(new QuantizationSettings { Method = "rtn" }));
        Change(folder["out"], document => document[key] = JsonValue.Create(value));
        Assert.Equal(ErrorKind.Failed, Assert.Throws<NibbleException>(() => Certifier.Verify(folder["out"], Tiny)).Kind);
    }

    [Fact]
    public void Without_the_source_the_logits_of_the_export_are_checked()
    {
        using TempFolder folder = new();
        Quantizer.Run(Tiny, folder["out"], new PlanRequest(new QuantizationSettings { Method = "rtn" }));
        Change(folder["out"], document => document["source"] = "a-model-that-is-nowhere");
        Assert.Null(Certifier.Verify(folder["out"]).Source);
        Change(folder["out"], document => document["best"]!.AsArray()[0]!["logit"] = 1e3);
        Assert.Equal(ErrorKind.Failed, Assert.Throws<NibbleException>(() => Certifier.Verify(folder["out"])).Kind);
    }

    [Theory]
    [InlineData("{")]
    [InlineData("{}")]
    [InlineData("[]")]
    public void Damaged_certificates_are_bad_input(string text)
    {
        using TempFolder folder = new();
        Quantizer.Run(Tiny, folder["out"], new PlanRequest(new QuantizationSettings { Method = "rtn" }));
        File.WriteAllText(Certificate.PathOf(folder["out"]), text);
        Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => Certifier.Verify(folder["out"])).Kind);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => Certifier.Verify(Tiny)).Kind);
    }

    private static void Change(string export, Action<JsonObject> change)
    {
        JsonObject document = JsonNode.Parse(File.ReadAllText(Certificate.PathOf(export)))!.AsObject();
        change(document);
        File.WriteAllText(Certificate.PathOf(export), document.ToJsonString());
    }
}
