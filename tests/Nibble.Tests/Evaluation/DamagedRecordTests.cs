using Nibble.Certificates;
using Nibble.Evaluation;
using Nibble.Evaluation.Baselines;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;

namespace Nibble.Tests.Evaluation;

/// <summary>Documents that Nibble wrote beside results, cut short or edited since: the file is named, whatever is wrong with it.</summary>
public sealed class DamagedRecordTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public static TheoryData<string> Damages => ["", "{", "[]", "null", "{}", "{\"schema\": \"one\"}", "{\"report\": 3}", "{\"report\": {\"method\": 3}}", "{\"report\": {\"method\": \"rtn\", \"settings\": []}}"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Damages))]
    public void Records_that_are_damaged_are_named(string content)
    {
        string baseline = Write("baseline.json", content), report = Write(QuantizationReport.FileName, content), certificate = Certificate.PathOf(_folder.Path);
        File.WriteAllText(certificate, content);
        Refused(baseline, () => BaselineReader.Open(_folder.Path, BaselineFacts.Of("window", "text", "tokens", 2, 3)));
        Refused(report, () => QuantizedFolderWriter.ReadReport(_folder.Path));
        Refused(certificate, () => Certificate.Read(_folder.Path));
    }

    [Fact]
    public void A_damaged_record_of_a_quantized_model_is_named()
    {
        Quantizer.Run(Path.Combine(TestData.Assets, "nibble-llama-4m"), _folder["out"], new PlanRequest(new QuantizationSettings { Method = "nf4" }), new QuantizerOptions());
        using LoadedModel model = LoadedModel.Load(_folder["out"]);
        Assert.Equal("nf4", MeasuredMethod.Of(model, new LoadOptions()).Name);
        string path = Path.Combine(_folder["out"], QuantizationReport.FileName);
        File.WriteAllText(path, File.ReadAllText(path)[..100]);
        Refused(path, () => MeasuredMethod.Of(model, new LoadOptions()));
    }

    private static void Refused(string path, Action read)
    {
        NibbleException error = Assert.Throws<NibbleException>(read);
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.True(error.Message.Contains(Path.GetFileName(path), StringComparison.Ordinal) || error.Message.Contains(Path.GetDirectoryName(path)!, StringComparison.Ordinal), error.Message);
    }

    private string Write(string name, string content)
    {
        File.WriteAllText(_folder[name], content);
        return _folder[name];
    }
}
