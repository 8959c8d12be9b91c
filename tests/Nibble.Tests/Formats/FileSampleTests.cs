using Nibble.Formats;
using Nibble.Runs.Studies;
using Nibble.Tensors;

namespace Nibble.Tests.Formats;

/// <summary>Files that agree in name, size, time and header are other files as soon as one of their tensors is another.</summary>
public sealed class FileSampleTests : IDisposable
{
    private static readonly DateTime Time = new(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc);

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Every_tensor_of_a_checkpoint_counts()
    {
        // Norms of a few kB between matrices of MBs, as a model has them.
        (string Name, int Elements)[] tensors = [("embedding", 3_000_000), ("norm.0", 700), ("matrix.0", 1_500_000), ("norm.1", 700), ("matrix.1", 1_500_000), ("norm.2", 700), ("head", 3_000_000)];
        string path = _folder["model.safetensors"];
        HashSet<string> samples = [], fingerprints = [];
        foreach (string? changed in tensors.Select(tensor => tensor.Name).Prepend(null))
        {
            Write(path, tensors, changed);
            samples.Add(FileSample.Of(path));
            fingerprints.Add(ModelFingerprint.Of(_folder.Path));
        }

        Assert.Equal(tensors.Length + 1, samples.Count);
        Assert.Equal(tensors.Length + 1, fingerprints.Count);
        Write(path, tensors, null);
        Assert.Contains(FileSample.Of(path), samples);
        File.SetLastWriteTimeUtc(path, Time.AddSeconds(1));
        Assert.Contains(FileSample.Of(path), samples);
        Assert.DoesNotContain(ModelFingerprint.Of(_folder.Path), fingerprints);
    }

    [Fact]
    public void A_repair_is_a_part_of_its_model_and_other_folders_are_not()
    {
        File.WriteAllText(_folder["config.json"], "{}");
        string alone = ModelFingerprint.Of(_folder.Path);
        Directory.CreateDirectory(_folder["checkpoint-1"]);
        File.WriteAllText(Path.Combine(_folder["checkpoint-1"], "adapter_model.safetensors"), "x");
        Assert.Equal(alone, ModelFingerprint.Of(_folder.Path));
        Directory.CreateDirectory(_folder["repair"]);
        File.WriteAllText(Path.Combine(_folder["repair"], "adapter_model.safetensors"), "x");
        Assert.NotEqual(alone, ModelFingerprint.Of(_folder.Path));
    }

    [Fact]
    public void A_letter_anywhere_in_data_counts_and_so_do_files_in_folders()
    {
        string deep = Path.Combine(Directory.CreateDirectory(_folder["train"]).FullName, "rows.txt");
        char[] text = new char[3 << 20];
        Array.Fill(text, 'a');
        string before = Fingerprint(text);
        text[2_222_222] = 'b';
        Assert.NotEqual(before, Fingerprint(text));
        text[2_222_222] = 'a';
        Assert.Equal(before, Fingerprint(text));

        string Fingerprint(char[] content)
        {
            File.WriteAllText(deep, new string(content));
            File.SetLastWriteTimeUtc(deep, Time);
            return ModelFingerprint.OfData(_folder.Path);
        }
    }

    [Fact]
    public void A_damaged_header_is_no_reason_to_stop()
    {
        byte[] bytes = new byte[2 << 20];
        bytes.AsSpan(0, 8).Fill(0xff);
        foreach (string name in new[] { "model.safetensors", "model.gguf" })
        {
            File.WriteAllBytes(_folder[name], bytes);
            Assert.StartsWith("2097152 ", FileSample.Of(_folder[name]), StringComparison.Ordinal);
        }
    }

    private static void Write(string path, (string Name, int Elements)[] tensors, string? changed)
    {
        Safetensors.Save(path, tensors.Select(tensor => (tensor.Name, Values(tensor.Elements, tensor.Name == changed ? 2 : 1))));
        File.SetLastWriteTimeUtc(path, Time);
    }

    private static Tensor Values(int count, float value)
    {
        Tensor tensor = Tensor.OnHost(new Shape(count), DType.F32);
        tensor.HostSpan<float>().Fill(value);
        return tensor;
    }
}
